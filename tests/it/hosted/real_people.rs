//! What people do on a Gitea or a Forgejo, done by a second account: on a real server where `TOWPATH_TEST_GITEA_URL`,
//! `TOWPATH_TEST_GITEA_TOKEN` and `TOWPATH_TEST_GITEA_SECOND_TOKEN` name one, and on the double in every test run.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Value, json};
use towpath::drivers::forge::{
    Act, Actor, Authorship, Error, Forge as _, Merge, MergeRequest, State,
};
use towpath::drivers::hosted::api::Api as _;
use towpath::drivers::hosted::client::{Client, Repeat, encoded};
use towpath::drivers::hosted::transport::Verb;
use towpath::git::Branch;
use towpath::model::{PersonName, RepoPath, Revision};

use super::contract::Place;
use super::gitlab_double::{BOT_TOKEN, Face, SECOND_TOKEN};
use super::real::{Made, until, variable};
use super::{FILE, at, green, proposal};

/// The second account, in a repository of the first one's.
struct Person<'a> {
    made: &'a Made,
    client: Client,
    token: &'a str,
    name: PersonName,
}

impl<'a> Person<'a> {
    fn new(made: &'a Made, token: &'a str) -> Self {
        let client = made.client_of(token);
        let reply = client.get("asking who that is", "/user").unwrap();
        let shown: Value = serde_json::from_slice(&reply.body).unwrap();
        let name = shown["login"].as_str().unwrap().to_owned();
        let it = Self { made, client, token, name: PersonName::parse(&name).unwrap() };
        let path = it.path(&format!("/collaborators/{name}"));
        let body = json!({ "permission": "write" });
        made.client().act("inviting", Verb::Put, &path, &body, Repeat::Never).unwrap();
        it
    }

    fn path(&self, rest: &str) -> String {
        let parts: Vec<String> = self.made.project.split('/').map(encoded).collect();
        format!("/repos/{}{rest}", parts.join("/"))
    }

    fn does(&self, verb: Verb, path: &str, body: &Value) -> Value {
        let reply = self.client.act(path, verb, &self.path(path), body, Repeat::Never).unwrap();
        let text = String::from_utf8_lossy(&reply.body);
        assert!((200..300).contains(&reply.status), "{path}: {} {text}", reply.status);
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }

    fn comments(&self, number: u64, text: &str) {
        self.does(Verb::Post, &format!("/issues/{number}/comments"), &json!({ "body": text }));
    }

    fn reviews(&self, mr: &MergeRequest, event: &str) {
        let body = json!({ "event": event, "body": "so", "commit_id": mr.head.to_string() });
        self.does(Verb::Post, &format!("/pulls/{}/reviews", mr.number), &body);
    }

    fn pushes(&self, file: &str, text: &str, from: &str, to: &str) -> Revision {
        let mut body = json!({ "branch": from, "content": BASE64.encode(text.as_bytes()), "message": "by hand" });
        if from != to {
            body["new_branch"] = json!(to);
        }
        let made = self.does(Verb::Post, &format!("/contents/{file}"), &body);
        Revision::parse(made["commit"]["sha"].as_str().unwrap()).unwrap()
    }
}

/// A promotion of staging to another ref, and its green checks.
fn opens(made: &Made, to: &str) -> MergeRequest {
    let forge = made.forge();
    let base = made.head().unwrap();
    let file = made.repository().read_at(base, &RepoPath::parse(FILE).unwrap()).unwrap().unwrap();
    let text = String::from_utf8(file).unwrap();
    let mr = forge.open_or_update(&proposal(&text, base, "staging", to, at(51))).unwrap();
    until("its checks", || {
        forge.report(mr.number, &green(mr.head, base)).map_err(|it| format!("{it:?}"))
    });
    mr
}

/// Until the forge shows it as it should be.
fn seen(made: &Made, number: u64, good: impl Fn(&MergeRequest) -> bool) -> MergeRequest {
    until("it is seen so", || {
        let listed = made.forge().list(at(60)).map_err(|it| format!("{it:?}"))?;
        let found = listed.into_iter().find(|it| it.number == number).ok_or("not listed")?;
        if good(&found) { Ok(found) } else { Err(format!("{found:?}")) }
    })
}

fn exercise(made: &Made, second: &str) {
    made.configured();
    let ada = Person::new(made, second);
    let act = Act { by: Actor::Towpath, at: at(50) };
    let by_ada = |state: &State| matches!(state, State::Closed { by, .. } if *by == Actor::Person(ada.name.clone()));

    // What they ask for in comments is answered once.
    let mr = opens(made, "2");
    ada.comments(mr.number, "/explain ``` <b>please</b>");
    ada.comments(mr.number, "nothing");
    let forge = made.forge();
    let orders = until("the comment", || {
        let orders = forge.orders(mr.number).map_err(|it| format!("{it:?}"))?;
        if orders.is_empty() { Err("none".to_owned()) } else { Ok(orders) }
    });
    assert_eq!(orders.len(), 1, "{orders:?}");
    assert_eq!(orders[0].by.as_ref(), Some(&ada.name));
    for forge in [&forge, &made.forge()] {
        forge.answer(mr.number, orders[0].comment, "so it is <!-- --> ```").unwrap();
        assert!(forge.orders(mr.number).unwrap().is_empty());
    }

    // An approval is of the head that was there.
    ada.reviews(&mr, "APPROVED");
    let agreed = |it: &MergeRequest, head| it.approvals.get(&ada.name) == Some(&head);
    seen(made, mr.number, |it| agreed(it, mr.head));
    let newer = opens(made, "3");
    assert_eq!(newer.number, mr.number);
    assert_ne!(newer.head, mr.head);
    seen(made, mr.number, |it| it.head == newer.head && agreed(it, mr.head));

    // A request for changes closes it in their name, and so does taking the label away.
    ada.reviews(&newer, "REQUEST_CHANGES");
    let closed = seen(made, mr.number, |it| it.state != State::Open);
    assert!(by_ada(&closed.state), "{closed:?}");
    let mr = opens(made, "3");
    let labels = ada.does(Verb::Get, &format!("/issues/{}/labels", mr.number), &json!({}));
    let label = labels[0]["id"].as_u64().unwrap();
    ada.does(Verb::Delete, &format!("/issues/{}/labels/{label}", mr.number), &json!({}));
    let closed = seen(made, mr.number, |it| it.state != State::Open);
    assert!(by_ada(&closed.state), "{closed:?}");

    // Their push is theirs.
    let mr = opens(made, "3");
    let theirs = ada.pushes("notes.md", "wait", "towpath/shop/staging", "towpath/shop/staging");
    let found = seen(made, mr.number, |it| it.head == theirs);
    assert_eq!(found.authorship, Authorship::Person);
    let base = made.head().unwrap();
    let text = super::TEXT;
    let refused = made.forge().open_or_update(&proposal(text, base, "staging", "4", at(70)));
    assert!(matches!(refused, Err(Error::PersonPushed { .. })), "{refused:?}");
    assert!(!matches!(made.forge().merge(mr.number, theirs, &act), Ok(Merge::Merged { .. })));
    ada.does(Verb::Patch, &format!("/pulls/{}", mr.number), &json!({ "state": "closed" }));
    let closed = seen(made, mr.number, |it| it.state != State::Open);
    assert!(by_ada(&closed.state), "{closed:?}");
    ada.does(Verb::Delete, "/branches/towpath%2Fshop%2Fstaging", &json!({}));

    // What they propose themselves is told of in a status and one comment.
    let head = ada.pushes("by-hand.md", "mine", "main", "by-hand");
    let body = json!({ "head": "by-hand", "base": "main", "title": "By hand", "body": "" });
    let number = ada.does(Verb::Post, "/pulls", &body)["number"].as_u64().unwrap();
    let forge = made.forge();
    let guests = until("the guest", || {
        let guests = forge.guests(&BTreeMap::new()).map_err(|it| format!("{it:?}"))?;
        if guests.is_empty() { Err("none".to_owned()) } else { Ok(guests) }
    });
    let found: Vec<_> = guests.iter().map(|it| (it.number, it.head, it.here)).collect();
    assert_eq!(found, [(number, head, true)]);
    forge.review(number, &green(head, base)).unwrap();
    forge.review(number, &green(head, base)).unwrap();
    assert!(forge.list(at(80)).unwrap().iter().all(|it| it.number != number));

    // Where the branch wants an approval, the second account gives it; nothing merges without.
    let rule = json!({ "rule_name": "main", "branch_name": "main", "required_approvals": 1 });
    let path = ada.path("/branch_protections");
    let reply = made.client().act("protecting", Verb::Post, &path, &rule, Repeat::Never).unwrap();
    assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body));
    let mr = opens(made, "5");
    let alone =
        until("it wants an approval", || match made.forge().merge(mr.number, mr.head, &act) {
            Ok(Merge::NotGreen { why }) if why.contains("enough approvals") => Ok(why),
            other => Err(format!("{other:?}")),
        });
    assert!(!alone.contains(ada.token));
    let both = made.forge_with(Some(second));
    until("the merge", || match both.merge(mr.number, mr.head, &act) {
        Ok(Merge::Merged { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // A merge by somebody else at our head is a merge.
    let mr = opens(made, "6");
    ada.reviews(&mr, "APPROVED");
    let body = json!({ "Do": "merge", "head_commit_id": mr.head.to_string() });
    until("a merge by hand", || {
        let path = ada.path(&format!("/pulls/{}/merge", mr.number));
        let reply = ada.client.act("merging", Verb::Post, &path, &body, Repeat::Never);
        let reply = reply.map_err(|it| it.to_string())?;
        if reply.status == 200 { Ok(()) } else { Err(format!("status {}", reply.status)) }
    });
    let merged = made.forge().merge(mr.number, mr.head, &act).unwrap();
    assert!(matches!(merged, Merge::AlreadyMerged { .. }), "{merged:?}");
    let listed = seen(made, mr.number, |it| it.state != State::Open);
    assert!(
        matches!(&listed.state, State::Merged { by, .. } if *by == Actor::Person(ada.name.clone())),
        "{listed:?}"
    );
}

/// A branch of a fork that is called like ours is not ours, and does not stand where ours is to be opened.
fn a_fork_is_elsewhere(made: &Made, second: &str) {
    let base = made.configured();
    let ada = Person::new(made, second);
    let fork = ada.does(Verb::Post, "/forks", &json!({ "name": "fork-of-it" }));
    let fork = format!("/repos/{}", fork["full_name"].as_str().unwrap());
    let theirs = "staging: 7\nproduction: 1\n";
    let file = format!("{fork}/contents/{FILE}");
    until("their branch", || {
        let read = ada.client.get("reading the fork", &format!("{file}?ref=main"));
        let read = read.map_err(|it| it.to_string())?;
        let read: Value = serde_json::from_slice(&read.body).map_err(|it| it.to_string())?;
        let old = read["sha"].as_str().ok_or("not there yet")?;
        let body = json!({
            "branch": "main", "new_branch": "towpath/shop/staging", "sha": old,
            "content": BASE64.encode(theirs.as_bytes()), "message": "by hand",
        });
        let reply = ada.client.act("pushing", Verb::Put, &file, &body, Repeat::Never);
        let status = reply.map_err(|it| it.to_string())?.status;
        if status == 200 { Ok(()) } else { Err(format!("status {status}")) }
    });
    let head = format!("{}:towpath/shop/staging", ada.name);
    let body = json!({ "head": head, "base": "main", "title": "Theirs", "body": "" });
    let number = ada.does(Verb::Post, "/pulls", &body)["number"].as_u64().unwrap();
    let forge = made.forge();
    let (ours, main) =
        (Branch::parse("towpath/shop/staging").unwrap(), Branch::parse("main").unwrap());
    assert_eq!(forge.api().find(&ours, &main).unwrap(), None);
    let mr = forge.open_or_update(&proposal(super::TEXT, base, "staging", "2", at(51))).unwrap();
    assert_ne!(mr.number, number);
    let found = forge.api().find(&ours, &main).unwrap().unwrap();
    assert_eq!((found.number, found.head), (mr.number, Some(mr.head)));
    let listed: Vec<u64> = forge.list(at(60)).unwrap().iter().map(|it| it.number).collect();
    assert_eq!(listed, [mr.number]);
    // What they propose is told of all the same.
    let guests = forge.guests(&BTreeMap::new()).unwrap();
    assert_eq!(guests.iter().map(|it| it.number).collect::<Vec<_>>(), [number]);
    forge.review(number, &green(guests[0].head, base)).unwrap();
    let gone = ada.client.act("removing", Verb::Delete, &fork, &json!({}), Repeat::Harmless);
    assert_eq!(gone.unwrap().status, 204);
}

#[test]
fn what_people_do_is_seen_on_the_double() {
    let place = Place::with(Face::Gitea);
    let url = place.server.as_ref().unwrap().url.clone();
    exercise(&Made::new(Face::Gitea, &url, BOT_TOKEN), SECOND_TOKEN);
}

#[test]
fn what_people_do_is_seen_on_a_real_server() {
    let of = |what: &str| variable("GITEA", what);
    match (of("URL"), of("TOKEN"), of("SECOND_TOKEN")) {
        (Some(url), Some(token), Some(second)) => {
            exercise(&Made::new(Face::Gitea, &url, &token), &second);
            // On the doubles `what_people_propose_gets_a_status_and_one_comment` does the same.
            a_fork_is_elsewhere(&Made::new(Face::Gitea, &url, &token), &second);
        }
        _ => eprintln!("skipped: TOWPATH_TEST_GITEA_URL, _TOKEN and _SECOND_TOKEN are not all set"),
    }
}
