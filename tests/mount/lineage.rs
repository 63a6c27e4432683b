//! Lineage from opens: what real programs read becomes what their versions were made from, and nothing else does.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::host::{Host, need, program, wait_until};

pub const TESTS: &[(&str, fn())] = &[
    ("a_pipeline_under_artfs_run_has_its_inputs_and_no_others", pipeline_of_runs),
    ("a_python_program_with_worker_processes_is_one_run", python_workers),
    ("under_plain_bash_a_version_comes_from_what_its_writers_read", plain_bash),
    ("in_an_interactive_shell_each_command_line_is_a_run", interactive_shell),
    ("a_run_is_what_its_first_process_has_become", becomes_another),
    ("a_name_that_is_no_name_of_a_run_is_told_of_once", wrong_name),
    ("an_alias_is_recorded_as_the_version_it_meant", aliases),
    ("no_lineage_records_nothing", no_lineage),
    ("what_was_read_before_the_daemon_was_killed_is_not_lost", killed_daemon),
    ("a_run_that_only_reads_is_told_to_all_hosts_as_a_use", uses),
    ("get_and_put_are_part_of_the_run", without_a_mount),
    ("run_passes_exit_status_and_signals_through", exit_status),
    ("no_secret_of_a_run_is_stored_anywhere", secrets),
    ("a_process_is_looked_at_once_however_much_it_opens", looks),
    ("identical_content_has_another_producer_with_its_run", identical),
    ("a_run_tells_its_start_and_end_as_openlineage_events", openlineage),
];

/// The names of the versions that a version was made from, as its record says.
fn inputs(host: &Host, reference: &str) -> Vec<String> {
    let record = record(host, reference);
    let name = |read: &Value| {
        let text = |member: &str| read[member].as_str().unwrap().to_owned();
        format!("{}/{}:{}", text("project"), text("name"), text("version"))
    };
    let mut names: Vec<String> = record["reads"].as_array().unwrap().iter().map(name).collect();
    names.sort();
    names
}

fn record(host: &Host, reference: &str) -> Value {
    serde_json::from_str(&host.ok(&["show", "--json", reference])).unwrap()
}

fn lineage(host: &Host, words: &[&str]) -> Value {
    serde_json::from_str(&host.ok(&[&["lineage", "--json"], words].concat())).unwrap()
}

fn node_names(graph: &Value) -> Vec<String> {
    graph["nodes"].as_array().unwrap().iter().map(|n| n["name"].as_str().unwrap().to_owned()).collect()
}

/// Artifacts with one version each; empty ones are only made.
fn fill(host: &Host) {
    for name in ["raw", "unrelated"] {
        host.version(&format!("p/{name}"), &[("data", b"some data\n"), ("more", b"12345")]);
    }
    for name in ["clean", "model", "report"] {
        host.artifact(&format!("p/{name}"));
    }
}

/// A process that reads an artifact that has nothing to do with the test, again and again, until it is dropped.
struct Unrelated(std::process::Child);

impl Unrelated {
    fn read(host: &Host) -> Self {
        let file = host.path("p/unrelated/latest/data");
        let script = format!("while :; do cat {} >/dev/null; sleep 0.01; done", file.display());
        Self(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Unrelated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const PREPROCESS: &str =
    "tr a-z A-Z <p/raw/latest/data >p/clean/staging/data && mv p/clean/staging p/clean/next";
const TRAIN: &str =
    "cat p/clean/latest/data p/clean/latest/data >p/model/staging/model && mv p/model/staging p/model/next";
const EVALUATE: &str =
    "wc -c <p/model/latest/model >p/report/staging/report && mv p/report/staging p/report/next";

fn run_script(host: &Host, words: &[&str], script: &str) {
    let output = host
        .command(&[&["run"], words, &["--", "sh", "-ec", script]].concat())
        .current_dir(&host.at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn pipeline_of_runs() {
    let host = Host::new();
    fill(&host);
    let _unrelated = Unrelated::read(&host);
    run_script(&host, &["--job-type", "preprocess"], PREPROCESS);
    run_script(&host, &["--job-type", "train", "--name", "first", "--group", "g", "--tag", "t"], TRAIN);
    run_script(&host, &["--job-type", "evaluate"], EVALUATE);
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0"]);
    assert_eq!(inputs(&host, "p/model"), ["p/clean:v0"]);
    assert_eq!(inputs(&host, "p/report"), ["p/model:v0"]);
    let read = &record(&host, "p/clean")["reads"][0];
    assert_eq!((read["files"].clone(), read["bytes"].clone()), (json!(1), json!(10)), "one of two files");
    let run = &record(&host, "p/model")["run"];
    assert_eq!(
        (&run["name"], &run["job_type"], &run["group"], &run["tags"], &run["source"]),
        (&json!("first"), &json!("train"), &json!("g"), &json!(["t"]), &json!("declared"))
    );
    assert_eq!(run["command"][0], "sh");
    assert_eq!(run["user"], "root");
    assert_eq!(Path::new(run["directory"].as_str().unwrap()), host.at);
    let graph = lineage(&host, &["p/report"]);
    assert_eq!(node_names(&graph), ["p/clean:v0", "p/model:v0", "p/raw:v0", "p/report:v0"]);
    let down = lineage(&host, &["p/raw:v0", "--down"]);
    assert_eq!(node_names(&down), ["p/clean:v0", "p/model:v0", "p/raw:v0", "p/report:v0"]);
    let tree = "p/report:v0
made from
└─ p/model:v0  1 file read, 20 B
   └─ p/clean:v0  1 file read, 10 B
      └─ p/raw:v0  1 file read, 10 B
";
    assert_eq!(host.ok(&["lineage", "p/report"]), tree);
    let dot = host.ok(&["lineage", "p/model", "--up", "--depth", "1", "--dot"]);
    assert!(dot.contains("\"p/clean:v0\" -> \"p/model:v0\" [label=\"1 file\"];"), "{dot}");
    let mermaid = host.ok(&["lineage", "p/model", "--up", "--depth", "1", "--mermaid"]);
    assert_eq!(
        mermaid,
        "flowchart LR\n  n0[\"p/clean:v0\"]\n  n1[\"p/model:v0\"]\n  n0 -->|\"1 file\"| n1\n"
    );
    let runs: Value = serde_json::from_str(&host.ok(&["runs", "--json"])).unwrap();
    let train = runs.as_array().unwrap().iter().find(|run| run["name"] == "first").unwrap();
    assert_eq!((&train["exit_status"], &train["made"]), (&json!(0), &json!(["p/model:v0"])));
}

const WORKERS: &str = "
import multiprocessing, os, sys, threading
m = sys.argv[1]
def work(name):
    return open(f'{m}/p/raw/latest/{name}').read()
if __name__ == '__main__':
    with multiprocessing.get_context('spawn').Pool(2) as pool:
        parts = pool.map(work, ['data', 'more'])
    more = []
    thread = threading.Thread(target=lambda: more.append(open(f'{m}/p/clean/latest/data').read()))
    thread.start(); thread.join()
    with open(f'{m}/p/model/staging/model.tmp', 'w') as f:
        f.write(''.join(parts + more))
    os.replace(f'{m}/p/model/staging/model.tmp', f'{m}/p/model/staging/model')
    os.rename(f'{m}/p/model/staging', f'{m}/p/model/next')
";

fn python_workers() {
    need("python3");
    let host = Host::new();
    fill(&host);
    host.version("p/clean", &[("data", b"clean")]);
    let script = host.folder().join("train.py");
    fs::write(&script, WORKERS).unwrap();
    let _unrelated = Unrelated::read(&host);
    let (script, at) = (script.to_str().unwrap(), host.at.to_str().unwrap());
    host.ok(&["run", "--", "python3", script, at]);
    assert_eq!(inputs(&host, "p/model"), ["p/clean:v0", "p/raw:v0"]);
    let record = record(&host, "p/model");
    let raw = record["reads"].as_array().unwrap().iter().find(|read| read["name"] == "raw").unwrap();
    assert_eq!((&raw["files"], &raw["bytes"]), (&json!(2), &json!(15)), "by two workers");
    assert_eq!(record["run"]["python"]["executable"], "python3");
    // The same without `artfs run`: its processes are a tree.
    program(
        &host.folder(),
        &["sh", "-ec", &format!("echo more >>{at}/p/model/staging/x; rm {at}/p/model/staging/x")],
    );
    program(&host.folder(), &["python3", script, at]);
    let again = super::host::json(&host.path("p/model/.artfs/v0.json"));
    let producer = &again["producers"][0];
    assert_eq!(producer["run"]["source"], "process");
    // Its first word may be a path that a launcher of interpreters put there.
    assert_eq!(producer["run"]["command"].as_array().unwrap()[1..], [json!(script), json!(at)]);
}

fn plain_bash() {
    need("bash");
    let host = Host::new();
    fill(&host);
    let _unrelated = Unrelated::read(&host);
    let script = host.folder().join("pipeline.sh");
    fs::write(&script, format!("set -e\ncd {}\n{PREPROCESS}\n{TRAIN}\n", host.at.display())).unwrap();
    program(&host.folder(), &["bash", script.to_str().unwrap()]);
    // One script is one run: what it read before counts for what it makes after.
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0"]);
    assert_eq!(inputs(&host, "p/model"), ["p/clean:v0", "p/raw:v0"]);
    let run = &record(&host, "p/model")["run"];
    assert_eq!(
        (&run["source"], &run["command"]),
        (&json!("process"), &json!(["bash", script.to_str().unwrap()]))
    );
    // Who asks for the commit need not be who made it.
    program(&host.at, &["sh", "-ec", "wc -c <p/model/latest/model >p/report/staging/report"]);
    host.commit("p/report").unwrap();
    assert_eq!(inputs(&host, "p/report"), ["p/model:v0"]);
    assert_eq!(record(&host, "p/report")["run"]["command"][0], "sh");
}

fn interactive_shell() {
    need("python3");
    need("bash");
    let host = Host::new();
    fill(&host);
    // A terminal, and somebody who types.
    let typist = "
import os, pty, sys
lines = sys.argv[1:]
pid, fd = pty.fork()
if pid == 0:
    os.execvp('bash', ['bash', '--norc', '-i'])
for line in lines + ['exit']:
    os.write(fd, line.encode() + b'\\n')
try:
    while os.read(fd, 1 << 16): pass
except OSError: pass
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))";
    let cd = format!("cd {}", host.at.display());
    let lines = [
        cd.as_str(),
        "cat p/unrelated/latest/data >/dev/null",
        "sh -c 'tr a-z A-Z <p/raw/latest/data >p/clean/staging/data'",
        "cat p/unrelated/latest/more >/dev/null",
        "mv p/clean/staging p/clean/next",
        // The shell opens the file, and becomes the program after that.
        "cat p/raw/latest/more >p/model/staging/model",
        "mv p/model/staging p/model/next",
    ];
    program(&host.folder(), &[&["python3", "-c", typist][..], &lines].concat());
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0"]);
    let run = &record(&host, "p/clean")["run"];
    assert_eq!((&run["source"], &run["command"][0]), (&json!("process"), &json!("sh")));
    assert_eq!(inputs(&host, "p/model"), ["p/raw:v0"]);
    assert_eq!(record(&host, "p/model")["run"]["command"], json!(["cat", "p/raw/latest/more"]));
}

fn becomes_another() {
    need("python3");
    let host = Host::new();
    fill(&host);
    let commit = "import os; os.rename('p/report/staging', 'p/report/next')";
    let script = format!("wc -c <p/raw/latest/data >p/report/staging/report; exec python3 -c \"{commit}\"");
    program(&host.at, &["sh", "-ec", &script]);
    assert_eq!(inputs(&host, "p/report"), ["p/raw:v0"]);
    let run = &record(&host, "p/report")["run"];
    // Its first word may be a path that a launcher of interpreters put there.
    assert!(run["command"][0].as_str().unwrap().ends_with("python3"), "{run}");
    assert_eq!((&run["command"][1], run["python"].is_object()), (&json!("-c"), true));
}

fn wrong_name() {
    let host = Host::new();
    fill(&host);
    let at = host.at.display();
    let script = format!("cat {at}/p/raw/latest/data; cat {at}/p/raw/latest/more");
    for _ in 0..2 {
        let output = Command::new("sh").args(["-c", &script]).env("ARTFS_RUN", "my run/1").output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let log = host.log();
    assert_eq!(log.matches("$ARTFS_RUN is ignored: \"my run/1\"").count(), 1, "{log}");
}

fn aliases() {
    let host = Host::new();
    fill(&host);
    program(&host.path("p/raw"), &["ln", "-s", "v0", "best"]);
    let script = "cat p/raw/best/data >p/clean/staging/data";
    run_script(&host, &[], script);
    host.ok(&["commit", "p/clean", "--input", "p/raw:best", "--input", "p/unrelated:v0"]);
    host.version("p/raw", &[("data", b"newer")]);
    program(&host.path("p/raw"), &["ln", "-sfn", "v1", "best"]);
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0"]);
    assert_eq!(record(&host, "p/clean")["inputs"], json!(["p/raw:v0", "p/unrelated:v0"]));
    let graph = lineage(&host, &["p/clean", "--up"]);
    assert_eq!(node_names(&graph), ["p/clean:v0", "p/raw:v0", "p/unrelated:v0"]);
    // The same by an attribute.
    fs::write(host.path("p/model/staging/f"), "x").unwrap();
    super::sys::setxattr(&host.path("p/model/staging"), "user.artfs.next.inputs", b"p/raw:best, p/raw")
        .unwrap();
    host.commit("p/model").unwrap();
    assert_eq!(record(&host, "p/model")["inputs"], json!(["p/raw:v1"]));
}

fn no_lineage() {
    let host = Host::new();
    fill(&host);
    run_script(&host, &[], "cat p/raw/latest/data >p/clean/staging/data");
    host.ok(&["commit", "p/clean", "--no-lineage", "--input", "p/unrelated:v0"]);
    let record = record(&host, "p/clean");
    assert_eq!((&record["reads"], &record["run"]), (&json!([]), &Value::Null));
    assert_eq!(record["inputs"], json!(["p/unrelated:v0"]));
}

fn killed_daemon() {
    let host = Host::new();
    fill(&host);
    let at = host.at.display().to_string();
    let script = format!(
        "cat {at}/p/raw/latest/data >copy; read line; cp copy {at}/p/clean/staging/data; mv {at}/p/clean/staging {at}/p/clean/next"
    );
    let mut run = host
        .command(&["run", "--", "sh", "-ec", &script])
        .current_dir(host.folder())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let has_read = || {
        let runs: Value = serde_json::from_str(&host.ok(&["runs", "--json"])).unwrap();
        runs.as_array().unwrap().iter().any(|run| run["reads"][0]["name"] == "raw")
    };
    wait_until("the read is written down", has_read);
    host.kill9_and_remount();
    std::io::Write::write_all(&mut run.stdin.take().unwrap(), b"go on\n").unwrap();
    assert!(run.wait().unwrap().success());
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0"]);
}

fn uses() {
    let host = Host::new();
    fill(&host);
    let elsewhere = host.beside(&[]);
    run_script(
        &host,
        &["--name", "nightly evaluation"],
        "cat p/raw/latest/data p/raw/latest/more >/dev/null",
    );
    program(&host.at, &["cat", "p/raw/latest/data"]);
    let of = |host: &Host| -> Value { serde_json::from_str(&host.ok(&["uses", "--json", "p/raw"])).unwrap() };
    let there = of(&elsewhere);
    assert_eq!(there["runs"].as_array().unwrap().len(), 1, "only what was a run: {there}");
    let run = &there["runs"][0];
    assert_eq!(
        (&run["name"], &run["files"], &run["published"]),
        (&json!("nightly evaluation"), &json!(2), &json!(true))
    );
    let here = of(&host);
    let plain: Vec<&Value> =
        here["runs"].as_array().unwrap().iter().filter(|run| run["published"] == false).collect();
    assert_eq!(plain.len(), 1, "{here}");
    assert_eq!(plain[0]["command"][0], "cat");
    assert!(elsewhere.ok(&["uses", "p/raw"]).contains("nightly evaluation"));
    assert!(elsewhere.ok(&["uses", "p/unrelated"]).contains("no use is recorded"));
    // Without the store, what is known here.
    let away = host.folder().join("away");
    fs::rename(host.store_folder(), &away).unwrap();
    let alone = of(&host);
    fs::rename(&away, host.store_folder()).unwrap();
    assert_eq!(alone["runs"].as_array().unwrap().len(), 2, "both ran here: {alone}");
    assert!(alone["this_host_only"].is_string() && here["this_host_only"].is_null(), "{alone}");
    // A collection leaves them alone.
    host.ok(&["gc", "--grace", "0s"]);
    assert_eq!(of(&elsewhere), there);
    // Without a store that takes it, it stays here, and the run is not called failed for that.
    let moved = host.folder().join("away");
    let script =
        format!("cat p/raw/latest/data >/dev/null; mv {} {}", host.store_folder().display(), moved.display());
    let output = host.command(&["run", "--", "sh", "-ec", &script]).current_dir(&host.at).output().unwrap();
    fs::rename(&moved, host.store_folder()).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("on this host only"), "{output:?}");
    // Of a deleted version, by its number.
    host.version("p/raw", &[("data", b"newer")]);
    host.ok(&["rm", "p/raw:v0", "--force"]);
    let gone: Value = serde_json::from_str(&elsewhere.ok(&["uses", "--json", "p/raw:v0"])).unwrap();
    assert_eq!((&gone["version"], gone["runs"].as_array().unwrap().len()), (&json!("p/raw:v0"), 1));
}

fn without_a_mount() {
    let host = Host::new();
    fill(&host);
    host.umount();
    let artfs = env!("CARGO_BIN_EXE_artfs");
    let script = format!("{artfs} get p/raw out && {artfs} put out/data p/model");
    let output = host
        .command(&["run", "--job-type", "train", "--", "sh", "-ec", &script])
        .current_dir(host.folder())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(inputs(&host, "p/model"), ["p/raw:v0"]);
    let record = record(&host, "p/model");
    assert_eq!((&record["run"]["job_type"], &record["reads"][0]["files"]), (&json!("train"), &json!(2)));
    host.mount();
}

fn exit_status() {
    let host = Host::unmounted(None, &[]);
    for (script, want) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + libc::SIGTERM)] {
        assert_eq!(host.run(&["run", "--", "sh", "-c", script]).status.code(), Some(want), "{script}");
    }
    assert_eq!(host.run(&["run", "--", "/no/such/program"]).status.code(), Some(127));
    assert_eq!(host.run(&["run", "--", "/etc/passwd"]).status.code(), Some(126));
    assert_eq!(host.run(&["run"]).status.code(), Some(2));
    let flag = host.folder().join("flag");
    let script = format!(
        "trap 'echo caught >{0}; exit 5' TERM; echo ready >{0}; while :; do sleep 0.05; done",
        flag.display()
    );
    let mut run = host.command(&["run", "--", "sh", "-c", &script]).spawn().unwrap();
    let said = || fs::read_to_string(&flag).unwrap_or_default();
    wait_until("the program is ready", || said() == "ready\n");
    // SAFETY: a call with numbers only; the process is not waited for yet.
    assert_eq!(unsafe { libc::kill(run.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(run.wait().unwrap().code(), Some(5));
    assert_eq!(said(), "caught\n");
    let runs: Value = serde_json::from_str(&host.ok(&["runs", "--json"])).unwrap();
    let ends: Vec<i64> =
        runs.as_array().unwrap().iter().filter_map(|run| run["exit_status"].as_i64()).collect();
    assert_eq!(ends, [5, 126, 127, 143, 7, 0], "the latest first");
}

fn secrets() {
    const SECRET: &str = "hunter2hunter2";
    let host = Host::new();
    fill(&host);
    let script = format!("export DB_PASSWORD={SECRET}; {PREPROCESS}");
    let output = host
        .command(&[
            "run",
            "--",
            "env",
            "WANDB_API_KEY=hunter2hunter2",
            "sh",
            "-ec",
            &script,
            "x",
            "--api-key",
            SECRET,
            "--token=hunter2hunter2",
            "--mypw",
            SECRET,
            "--set=db.password=hunter2hunter2",
            "-H",
            "X-Vault: hunter2hunter2",
            "{\"a\": \"hunter2hunter2\"}",
            "login",
            SECRET,
        ])
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("OMP_NUM_THREADS", "3")
        .current_dir(&host.at)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // The same without `artfs run`.
    program(&host.at, &["env", "SECRET=hunter2hunter2", "sh", "-ec", TRAIN, "x", "--password", SECRET]);
    let run = &record(&host, "p/clean")["run"];
    assert_eq!(run["environment"]["OMP_NUM_THREADS"], "3");
    host.umount();
    let found = Command::new("grep").args(["-rl", SECRET, "."]).current_dir(host.folder()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "grep finds nothing");
    // The checker itself.
    fs::write(host.folder().join("planted"), SECRET).unwrap();
    let found = Command::new("grep").args(["-rl", SECRET, "."]).current_dir(host.folder()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "./planted\n");
}

fn looks() {
    need("python3");
    let host = Host::new();
    fill(&host);
    let before = host.status()["lineage"].clone();
    let script = "
for i in range(500):
    with open('p/raw/latest/data') as f: f.read()
with open('p/model/staging/f', 'w') as f: f.write('x')
import os; os.rename('p/model/staging', 'p/model/next')";
    program(&host.at, &["python3", "-c", script]);
    let after = host.status()["lineage"].clone();
    let grown = |member: &str| after[member].as_u64().unwrap() - before[member].as_u64().unwrap();
    assert_eq!((grown("opens"), grown("looks"), grown("unknown")), (500, 1, 0), "{before} {after}");
    assert_eq!(record(&host, "p/model")["reads"][0]["files"], 1, "one file, however often");
}

fn identical() {
    let host = Host::new();
    fill(&host);
    run_script(&host, &["--name", "one"], PREPROCESS);
    run_script(&host, &["--name", "two"], &format!("cat p/unrelated/latest/data >/dev/null; {PREPROCESS}"));
    assert_eq!(host.versions("p/clean"), ["v0"]);
    let record = record(&host, "p/clean");
    assert_eq!(record["run"]["name"], "one");
    assert_eq!(record["producers"][0]["run"]["name"], "two");
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0", "p/unrelated:v0"]);
    // The audit report has both, each with its run and what that read.
    let report: Value = serde_json::from_str(&host.ok(&["audit", "p/clean", "--json"])).unwrap();
    let again = &report["made_again"][0];
    assert_eq!((&again["run"]["name"], &again["seq"]), (&json!("two"), &json!(2)));
    let reads: Vec<&str> =
        again["reads"].as_array().unwrap().iter().map(|read| read["name"].as_str().unwrap()).collect();
    assert_eq!(reads, ["raw", "unrelated"]);
    let page = host.folder().join("page.html");
    host.ok(&["audit", "p/clean", "--html", page.to_str().unwrap()]);
    for told in [host.ok(&["audit", "p/clean"]), fs::read_to_string(page).unwrap()] {
        let (_, again) = told.split_once("Made again by").expect("a section");
        for part in ["event 2", "two", "p/unrelated:v0 (1 file"] {
            let part = if told.starts_with("<!doctype") { part.trim_start_matches("event ") } else { part };
            assert!(again.contains(part), "{part}: {told}");
        }
    }
    // Who copies a version has not made it from itself.
    program(
        &host.at,
        &["sh", "-ec", "cp -r p/clean/v0/. p/clean/staging/ && mv p/clean/staging p/clean/next"],
    );
    assert_eq!(inputs(&host, "p/clean"), ["p/raw:v0", "p/unrelated:v0"]);
}

fn openlineage() {
    let host = Host::new();
    fill(&host);
    let events = host.folder().join("events.jsonl");
    let sink = events.to_str().unwrap();
    run_script(&host, &["--name", "prepare", "--openlineage", sink], PREPROCESS);
    let read = || -> Vec<Value> {
        let text = fs::read_to_string(&events).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        events.iter().for_each(|event| crate::support::openlineage::check(event).unwrap());
        events
    };
    let [start, end] = &read()[..] else { panic!("{:?}", read()) };
    assert_eq!((&start["eventType"], &end["eventType"]), (&json!("START"), &json!("COMPLETE")));
    assert_eq!(start["run"]["runId"], end["run"]["runId"]);
    assert_eq!((&end["job"]["name"], &end["inputs"][0]["name"]), (&json!("prepare"), &json!("p/raw")));
    assert_eq!(
        (&end["outputs"][0]["name"], &end["outputs"][0]["facets"]["version"]["datasetVersion"]),
        (&json!("p/clean"), &json!("v0"))
    );
    host.ok(&["lineage", "p/clean", "--openlineage", sink]);
    let told = read().pop().unwrap();
    assert_eq!(
        (&told["run"]["runId"], &told["inputs"], &told["outputs"]),
        (&end["run"]["runId"], &end["inputs"], &end["outputs"])
    );
    // A server gets them by POST; a refusal is reported, and fails no run.
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/api/v1/lineage", server.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        ["204 No Content", "500 Internal Server Error"].map(|status| {
            use std::io::{Read, Write};
            let (mut stream, _) = server.accept().unwrap();
            let mut request = vec![];
            while !request.ends_with(b"}") {
                let mut piece = [0; 4096];
                let n = stream.read(&mut piece).unwrap();
                assert!(n > 0, "the request ended early");
                request.extend_from_slice(&piece[..n]);
            }
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8(request).unwrap()
        })
    });
    let output = host.run(&["run", "--openlineage", &url, "--", "true"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it answered 500"), "{output:?}");
    let requests = serving.join().unwrap();
    assert!(
        requests[0].starts_with("POST /api/v1/lineage HTTP/1.1\r\n") && requests[0].contains("\"START\"")
    );
    assert!(requests[1].contains("\"COMPLETE\""), "{}", requests[1]);
}
