"""Drives the GitLab double as any client would: by python-gitlab, which knows nothing of Towpath.

Arguments: the double's address, the project, the sha at the head of the branch `feature`. Everything that is not
as a GitLab would have it ends this with an exception; the test reads the exit code.
"""

import sys

import gitlab

url, path, head = sys.argv[1:4]
bot, second = "glpat-bot-0123456789", "glpat-second-0123456789"


def client(token):
    # As an OAuth token: it goes out as `Authorization: Bearer`, as ours does.
    return gitlab.Gitlab(url, oauth_token=token, retry_transient_errors=False)


def refused(status, act):
    try:
        act()
    except gitlab.exceptions.GitlabError as error:
        assert error.response_code == status, (error.response_code, status, str(error))
        return str(error)
    raise AssertionError(f"expected {status}")


here = client(bot)
here.auth()
assert here.user.username == "towpath-bot", here.user
refused(401, client("glpat-nobody-0000").auth)
project = here.projects.get(path)
assert project.path_with_namespace == path

wanted = {
    "source_branch": "feature",
    "target_branch": "main",
    "title": "A feature",
    "description": "What it is for",
    "labels": ["towpath", "later"],
}
mr = project.mergerequests.create(wanted)
assert (mr.state, mr.sha, mr.iid) == ("opened", head, 1), mr
assert sorted(mr.labels) == ["later", "towpath"], mr.labels
refused(409, lambda: project.mergerequests.create(wanted))

query = {"state": "opened", "source_branch": "feature", "target_branch": "main"}
found = project.mergerequests.list(**query, get_all=True)
assert [it.iid for it in found] == [1]
assert project.mergerequests.list(state="merged", get_all=True) == []
refused(404, lambda: project.mergerequests.get(7))

mr.labels = ["towpath"]
mr.title = "A better feature"
mr.save()
mr = project.mergerequests.get(1)
assert (mr.labels, mr.title) == (["towpath"], "A better feature"), mr
kinds = [it.action for it in mr.resourcelabelevents.list(get_all=True)]
assert kinds == ["remove"], kinds

note = mr.notes.create({"body": "Looks fine"})
note.body = "Looks very fine"
note.save()
assert [it.body for it in mr.notes.list(get_all=True)] == ["Looks very fine"]
for number in range(45):
    mr.notes.create({"body": f"and {number}"})
assert len(mr.notes.list(get_all=True, per_page=20)) == 46, "page by page"

commit = project.commits.get(head)
for state in ("running", "success"):
    commit.statuses.create({"state": state, "name": "ci", "description": "by hand"})
shown = commit.statuses.list(get_all=True)
assert [(it.name, it.status) for it in shown] == [("ci", "success")], shown

# Needs an approval, and nobody approves what they opened.
assert project.mergerequests.get(1).detailed_merge_status == "not_approved"
refused(405, lambda: mr.merge(sha=head))
refused(401, lambda: mr.approve(sha=head))
other = client(second).projects.get(path).mergerequests.get(1)
refused(409, lambda: other.approve(sha="0" * 40))
other.approve(sha=head)
assert [it["user"]["username"] for it in mr.approvals.get().approved_by] == ["second"]

mr = project.mergerequests.get(1)
assert mr.detailed_merge_status == "mergeable", mr.detailed_merge_status
assert "SHA does not match" in refused(409, lambda: mr.merge(sha="0" * 40))
refused(406, mr.cancel_merge_when_pipeline_succeeds)
assert project.mergerequests.get(1).state == "opened"
mr.merge(sha=head)
mr = project.mergerequests.get(1)
assert (mr.state, mr.merge_user["username"]) == ("merged", "towpath-bot"), mr
assert mr.merge_commit_sha
refused(405, lambda: mr.merge(sha=head))
print("python-gitlab", gitlab.__version__, "agrees")
