//! A shop as it is run somewhere: nodes behind sshd, each with its own packages, an application on
//! each web node behind HAProxy, an Alertmanager, and clients that never stop asking.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::packages;
use crate::alerts::servers::{Server, alertmanager};
use crate::haproxy::apps::App;
use crate::haproxy::load::{Crowd, Load};
use crate::haproxy::proxy::{PLAIN, Proxy};
use crate::ssh::sshd::{Net, Sshd};
use crate::world::{World, patiently};

/// In the order in which the recipe comes to them; the last four serve requests.
pub(super) const NODES: [&str; 7] =
    ["deploy-1", "gitaly-1", "gitaly-2", "web-1", "web-2", "web-3", "web-4"];
const SERVING: usize = 3;

/// About 300 requests a second; the slow ones outlast a restart.
const CROWD: Crowd =
    Crowd { kept: 20, fresh: 10, sticky: 0, pause: Duration::from_millis(50), slow: 1_000 };

/// Migrations as rake runs them: `pre` before the code, `post` after it, each once for a version.
const RAKE: &str = "#!/bin/sh
version=$(dpkg-query --admindir=\"$HOME/root/var/lib/dpkg\" --show --showformat='${Version}' shop)
phase=${SKIP_POST_DEPLOYMENT_MIGRATIONS:+pre}
phase=${phase:-post}
case $1 in
  db:migrate) echo \"$phase $version\" >> \"$HOME/migrated\"; echo \"$phase\" >> ROOT/order ;;
  db:migrate:status) if grep -qxF \"$phase $version\" \"$HOME/migrated\"; then echo '   up  1'; else echo '  down  1'; fi ;;
esac
";

/// Asks the application on its port, as `curl` does on a node that has the port 8080 for itself.
const WELL: &str = "#!/bin/sh
echo asked >> \"$HOME/asked\"
exec curl -fsS \"http://127.0.0.1:$(cat \"$HOME/port\")/\"
";

const ROLE: &str = "#!/bin/sh
echo \"$1 $2\" >> \"$HOME/recorded\"
echo version-role >> ROOT/order
";

pub(super) struct Estate {
    pub(super) world: World,
    pub(super) proxy: Proxy,
    pub(super) alerts: Server,
    nodes: Vec<Sshd>,
    restarts: Arc<AtomicBool>,
    net: Net,
}

impl Estate {
    /// Everything runs 1.0, and a config repo says so.
    pub(super) async fn new() -> Self {
        Self::with("omnibus-fleet").await
    }

    /// The same, rolled out by a built-in recipe.
    pub(super) async fn with(recipe: &str) -> Self {
        let (world, net, alerts) = (World::bare(), Net::new(), alertmanager());
        packages::prepare(&world.root);
        let root = world.root.display().to_string();
        packages::program(&world.root.join("gitlab-rake"), &RAKE.replace("ROOT", &root));
        packages::program(&world.root.join("version-role"), &ROLE.replace("ROOT", &root));
        packages::program(&world.root.join("well"), WELL);
        let nodes: Vec<Sshd> = NODES.iter().map(|it| net.node(it)).collect();
        let mut apps = Vec::new();
        for node in &nodes {
            packages::install(&world.root, &node.home());
            if node.name.starts_with("web") {
                std::fs::write(node.home().join("serves"), "").unwrap();
                let app = App::start(&node.name).await;
                std::fs::write(node.home().join("port"), app.port.to_string()).unwrap();
                app.die().await;
                app.rise("1.0").await;
                apps.push(app);
            }
        }
        std::fs::write(nodes[0].home().join("migrated"), "pre 1.0\npost 1.0\n").unwrap();
        let proxy = Proxy::start(&PLAIN, &apps);
        for it in &apps {
            proxy.until_up(&it.name);
        }
        let restarts = Arc::new(AtomicBool::new(true));
        for (app, node) in apps.into_iter().zip(&nodes[SERVING..]) {
            tokio::spawn(restarted(app, node.home(), Arc::clone(&restarts)));
        }
        let estate = Self { world, proxy, alerts, nodes, restarts, net };
        estate.configure(recipe);
        estate
    }

    fn configure(&self, recipe: &str) {
        let ssh_config = self.net.config().display().to_string();
        let (world, root) = (&self.world, self.world.root.display());
        world.write("towpath.yaml", "version: 1\nenvironments: [staging]\nconfirm_above: 100%\n");
        world.write(
            "environments/staging.yaml",
            &example("environment: staging")
                .replace("/etc/towpath/ssh_config", &ssh_config)
                .replace("=/var/lib/dpkg", "=root/var/lib/dpkg")
                .replace("watchdog: none }", "watchdog: none, timeout: 3s }")
                .replace("/run/haproxy/admin.sock", &self.proxy.path("admin.sock"))
                .replace("alertmanager:9093", &format!("127.0.0.1:{}", self.alerts.port)),
        );
        world.write(
            "services/shop.yaml",
            &example("service: shop")
                .replace("omnibus-fleet", recipe)
                .replace("curl, -fsS, \"http://localhost:8080/\"", &format!("{root}/well"))
                .replace("/usr/bin/", &format!("{root}/"))
                .replace("shop.example.com", &format!("127.0.0.1:{}", self.proxy.port)),
        );
        // The recipe as the program prints it for copying. The nodes are no machines of their own,
        // so programs are told their root; and ten minutes are long for a test.
        let mut text = world.order(&["recipes", recipe]);
        for program in ["apt-get", "dpkg", "systemctl"] {
            for end in [" ", ","] {
                for before in [" ", "[", "'"] {
                    let own = format!("{before}{root}/{program}{end}");
                    text = text.replace(&format!("{before}{program}{end}"), &own);
                }
            }
        }
        text = text.replace(" /var/lib/dpkg", " root/var/lib/dpkg");
        text = text.replace("bake: 10m", "bake: 1s").replace("bake: 5m", "bake: 1s");
        let runs = text.matches(&format!("{root}/apt-get install")).count();
        assert_eq!(runs, text.matches("package}={ref}").count(), "{text}");
        assert_eq!(text.matches("ls root/var/lib/dpkg/updates").count(), runs, "{text}");
        world.write(&format!("recipes/{recipe}.yaml"), &text);
        world.commit("A shop");
    }

    /// Clients, until they are told to end.
    pub(super) fn load(&self) -> Load {
        Load::start(self.proxy.port, CROWD)
    }

    pub(super) fn node(&self, name: &str) -> &Sshd {
        self.nodes.iter().find(|it| it.name == name).unwrap()
    }

    /// Holds a web node in the middle of its restart, until it is let go.
    pub(super) fn hold(&self, name: &str) -> PathBuf {
        let hold = self.node(name).home().join("hold");
        std::fs::write(&hold, "").unwrap();
        hold
    }

    /// Lets a web node's application boot for as long as the file is there: the package's script
    /// returns when the old one is gone.
    pub(super) fn late(&self, name: &str) -> PathBuf {
        let late = self.node(name).home().join("late");
        std::fs::write(&late, "").unwrap();
        late
    }

    /// What a node's `systemctl`, `apt-get` and `dpkg` were told to change, in order.
    pub(super) fn told(&self, name: &str) -> Vec<String> {
        self.node(name).read("told").lines().map(str::to_owned).collect()
    }

    /// What `towpath status` says of one node.
    pub(super) fn status_of(&self, name: &str) -> String {
        self.world.towpath(&["status", "shop", "staging", "--only", name]).stdout
    }

    /// What each node runs, by its package database.
    pub(super) fn versions(&self) -> Vec<String> {
        self.nodes.iter().map(|it| packages::version(&it.home())).collect()
    }

    /// How often a version was installed on each node: by apt's calls, and by the package's own
    /// script.
    pub(super) fn touched(&self, version: &str) -> Vec<(usize, usize)> {
        let count = |node: &Sshd, file: &str, line: &str| {
            node.read(file).lines().filter(|it| *it == line).count()
        };
        let both = |node: &Sshd| {
            let calls = count(node, "touched", &format!("shop={version}"));
            (calls, count(node, "configured", version))
        };
        self.nodes.iter().map(both).collect()
    }

    /// What happened on nodes, in its order.
    pub(super) fn order(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.world.root.join("order")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn until_all_run(&self, version: &str) {
        self.until(&format!("all nodes run {version}"), || {
            self.versions().iter().all(|it| it == version)
        });
    }

    /// Waits longer than other tests do: seven nodes, and apt on each of them.
    pub(super) fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if !patiently(&mut condition) && !patiently(&mut condition) {
            self.world.until(what, condition);
        }
    }
}

impl Drop for Estate {
    fn drop(&mut self) {
        self.restarts.store(false, Ordering::SeqCst);
    }
}

/// Restarts a node's application when its package asks for that: it dies with all that it does,
/// and comes back with what is installed.
async fn restarted(app: App, home: PathBuf, on: Arc<AtomicBool>) {
    while on.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if home.join("restart").exists() && !home.join("hold").exists() {
            app.die().await;
            // The home may be gone with the test, here and below.
            let _ = std::fs::write(home.join("gone"), "");
            tokio::time::sleep(Duration::from_millis(200)).await;
            while home.join("late").exists() && on.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let version = std::fs::read_to_string(home.join("root/usr/share/shop/version"));
            app.rise(version.unwrap_or_default().trim()).await;
            let _ = std::fs::remove_file(home.join("gone"));
            let _ = std::fs::remove_file(home.join("restart"));
        }
    }
}

/// The README's example that begins so: what it says is what is tested.
fn example(first: &str) -> &'static str {
    let readme = include_str!("../../../README.md");
    let mut blocks = readme.split("```yaml\n").filter_map(|it| it.split("```").next());
    blocks.find(|it| it.starts_with(first)).unwrap()
}
