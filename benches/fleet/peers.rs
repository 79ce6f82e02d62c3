//! How other tools do the same work: the shell commands are the same everywhere.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use crate::sshd::{Net, PORT};

/// One way of doing it.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) command: Command,
}

/// A login begins in the account's own home, and `HOME` is the node's.
const TASKS: [&str; 3] = ["cat $HOME/version", "echo 1.1 > $HOME/version", "cat $HOME/version"];

/// The least that a node can do and be seen to have done it: nobody can be faster.
const FLOOR: &str = "echo 1.1 > $HOME/version";

const ASYNCSSH: &str = "
import asyncio, json, sys, asyncssh
TASKS = json.loads(sys.argv[-1])
config, names = sys.argv[1], sys.argv[2].split(',')
async def one(places, name):
    async with places:
        async with asyncssh.connect(name, config=[config]) as node:
            for command in TASKS:
                await node.run(command, check=True)
async def main():
    places = asyncio.Semaphore(50)
    await asyncio.gather(*(one(places, name) for name in names))
asyncio.run(main())
";

const PARALLEL: &str = "
import json, sys
TASKS = json.loads(sys.argv[-1])
from pssh.clients import ParallelSSHClient
from pssh.config import HostConfig
key, names = sys.argv[1], sys.argv[2].split(',')
configs = [HostConfig(port=int(sys.argv[4]), user=sys.argv[3], private_key=key) for it in names]
nodes = ParallelSSHClient(names, host_config=configs, pool_size=50, allow_agent=False)
for command in TASKS:
    for it in nodes.run_command(command):
        list(it.stdout)
        assert it.exit_code == 0
";

const FABRIC: &str = "
import json, sys
from concurrent.futures import ThreadPoolExecutor
from fabric import Connection
TASKS = json.loads(sys.argv[-1])
key, names = {'key_filename': sys.argv[1]}, sys.argv[2].split(',')
def one(name):
    with Connection(name, user=sys.argv[3], port=int(sys.argv[4]), connect_kwargs=key) as node:
        for command in TASKS:
            node.run(command, hide=True)
with ThreadPoolExecutor(50) as places:
    list(places.map(one, names))
";

/// What pyinfra is told to do.
const PYINFRA: &str = "
from pyinfra.operations import server
for command in TASKS:
    server.shell(commands=[command])
";

/// The library of the built-in client, without anything of ours.
pub(crate) fn bare(net: &Net, names: &[&str]) -> Vec<Peer> {
    let (user, all) = (user(), TASKS.join("; "));
    let peer = |name, commands: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("it runs"));
        command.arg(format!("--bare={}", serde_json::to_string(commands).expect("JSON")));
        command.arg(format!("--names={}", names.join(","))).arg(format!("--user={user}"));
        command.arg(format!("--key={}", net.root.join("id").display()));
        Peer { name, command }
    };
    vec![
        peer("russh alone, 3 commands on one connection", &TASKS),
        peer("russh alone, 1 command with all", &[&all]),
    ]
}

fn user() -> String {
    let user = Command::new("id").arg("-un").output().expect("coreutils");
    String::from_utf8(user.stdout).expect("a name").trim().to_owned()
}

/// All that are measured.
pub(crate) fn all(venv: &Path, net: &Net, names: &[&str]) -> Vec<Peer> {
    let root = &net.root;
    std::fs::write(root.join("inventory"), "[all]\n".to_owned() + &names.join("\n") + "\n")
        .unwrap();
    playbook(root, "three.yml", &TASKS.map(|it| format!("ansible.builtin.raw: {it}")));
    playbook(root, "one.yml", &[format!("ansible.builtin.raw: {}", TASKS.join("; "))]);
    playbook(root, "modules.yml", &TASKS.map(|it| format!("ansible.builtin.shell: {it}")));
    std::fs::write(root.join("names"), names.join("\n") + "\n").unwrap();
    std::fs::write(root.join("async.py"), ASYNCSSH).unwrap();
    std::fs::write(root.join("fab.py"), FABRIC).unwrap();
    std::fs::write(root.join("parallel.py"), PARALLEL).unwrap();
    let python = |script: &str| {
        let mut command = Command::new(venv.join("python"));
        command.arg(root.join(script));
        command
    };
    let tasks = serde_json::to_string(&TASKS).unwrap();
    let mut asyncssh = python("async.py");
    asyncssh.arg(net.config()).arg(names.join(",")).arg(&tasks);
    let user = user();
    let by_key = |script: &str, tasks: &[&str]| {
        let mut command = python(script);
        command.arg(root.join("id")).arg(names.join(",")).arg(&user);
        command.arg(PORT.to_string()).arg(serde_json::to_string(tasks).unwrap());
        command
    };
    let parallel = |tasks: &[&str]| by_key("parallel.py", tasks);
    let mut modules = ansible(venv, net, "modules.yml");
    modules.env("ANSIBLE_PIPELINING", "1");
    let mut mitogen = ansible(venv, net, "modules.yml");
    mitogen.env("ANSIBLE_STRATEGY", "mitogen_linear");
    mitogen.env("ANSIBLE_STRATEGY_PLUGINS", strategies(venv));
    let mut openssh = Command::new("xargs");
    openssh.arg("-a").arg(root.join("names")).args(["-P", "50", "-I", "{}", "ssh", "-T", "-F"]);
    openssh.arg(net.config()).arg("{}").arg(TASKS.join("; "));
    let pyinfra = pyinfra(venv, net, names, &user);
    vec![
        Peer { name: "asyncssh, 3 commands", command: asyncssh },
        Peer { name: "fabric, 3 commands", command: by_key("fab.py", &TASKS) },
        Peer { name: "OpenSSH's client for each node, 1 command with all", command: openssh },
        Peer { name: "parallel-ssh, 3 commands", command: parallel(&TASKS) },
        Peer { name: "parallel-ssh, 1 command with all", command: parallel(&[&TASKS.join("; ")]) },
        Peer { name: "what a login and its shell cost", command: parallel(&[FLOOR]) },
        Peer { name: "Ansible, 1 raw task", command: ansible(venv, net, "one.yml") },
        Peer { name: "Ansible, 3 raw tasks", command: ansible(venv, net, "three.yml") },
        Peer { name: "Ansible, 3 tasks of its shell module, pipelining", command: modules },
        Peer { name: "the same modules with mitogen", command: mitogen },
        Peer { name: "pyinfra, 3 operations", command: pyinfra },
    ]
}

/// Where mitogen has its plugins.
fn strategies(venv: &Path) -> std::path::PathBuf {
    let python = "import ansible_mitogen, os; print(os.path.dirname(ansible_mitogen.__file__))";
    let output = Command::new(venv.join("python")).args(["-c", python]).output().unwrap();
    let place = String::from_utf8(output.stdout).unwrap();
    Path::new(place.trim()).join("plugins/strategy")
}

fn playbook(root: &Path, file: &str, tasks: &[String]) {
    let mut text = "- hosts: all\n  gather_facts: false\n  tasks:\n".to_owned();
    for task in tasks {
        writeln!(text, "    - {task}").unwrap();
    }
    std::fs::write(root.join(file), text).unwrap();
}

fn ansible(venv: &Path, net: &Net, playbook: &str) -> Command {
    let mut command = Command::new(venv.join("ansible-playbook"));
    command.args(["-i", "inventory", "-f", "50", playbook]).current_dir(&net.root);
    let options =
        format!("-F {} -o ControlMaster=auto -o ControlPersist=10s", net.config().display());
    command.env("ANSIBLE_SSH_ARGS", options).env("ANSIBLE_HOME", net.root.join("ansible"));
    command.env("ANSIBLE_SSH_CONTROL_PATH_DIR", net.root.join("cp"));
    command.env("ANSIBLE_NOCOLOR", "1").env("LC_ALL", "C.UTF-8");
    command
}

fn pyinfra(venv: &Path, net: &Net, names: &[&str], user: &str) -> Command {
    let tasks = serde_json::to_string(&TASKS).unwrap();
    std::fs::write(net.root.join("work.py"), format!("TASKS = {tasks}\n{PYINFRA}")).unwrap();
    let data = serde_json::json!({
        "ssh_user": user,
        "ssh_port": PORT,
        "ssh_key": net.root.join("id"),
        "ssh_config_file": net.config(),
        "ssh_allow_agent": false,
        "ssh_strict_host_key_checking": "accept-new",
    });
    // Its configuration is Python, where a lie has a capital.
    let data = data.to_string().replace(":false", ":False");
    let names = serde_json::to_string(names).unwrap();
    std::fs::write(net.root.join("nodes.py"), format!("nodes = ({names}, {data})\n")).unwrap();
    let mut command = Command::new(venv.join("pyinfra"));
    command.args(["-y", "--parallel", "50", "nodes.py", "work.py"]).current_dir(&net.root);
    command.env("HOME", &net.root);
    command
}
