//! What may be recorded of command lines and environments: only what is known to be harmless.
//!
//! A secret has no form of its own. So a word is shown if its form is one that no secret has (`form.rs`), or if it stands
//! where the name before it says that words and numbers are harmless (`naming.rs`); never what stands behind a name of
//! secrets, whatever its form. All else is replaced.

mod form;
mod naming;
#[cfg(test)]
mod property;

use std::collections::BTreeMap;

pub use self::form::{HIDDEN, folder, url};
use self::form::{WordContext, is_name, is_path, shown};
use self::naming::{Class, class, is_known, is_strong};

/// Words of a command line that are recorded, and their bytes in all.
const MAX_WORDS: usize = 256;
const MAX_TOTAL_BYTES: usize = 8 << 10;
/// Options of one letter behind which users, passwords, keys and headers stand in well-known programs.
const RISKY_LETTERS: &str = "pukPUKHab";
/// Those behind which names of modules, files and numbers stand.
const HARMLESS_LETTERS: &str = "mofCinjdlrvxqgNR";
/// Programs to which a script is given behind `-c`.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox"];
/// What stands between the commands of a script.
const SEPARATORS: [&str; 15] =
    ["&&", "||", "|", "&", ";", "{", "}", "(", ")", "!", "do", "done", "then", "fi", "else"];

/// Variables of the environment that are recorded, with values of a form that is let through.
pub const VARIABLES: [&str; 30] = [
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "PYTHONHASHSEED",
    "CUBLAS_WORKSPACE_CONFIG",
    "WORLD_SIZE",
    "RANK",
    "LOCAL_RANK",
    "NODE_RANK",
    "CONDA_DEFAULT_ENV",
    "CONDA_PREFIX",
    "VIRTUAL_ENV",
    "LANG",
    "LC_ALL",
    "TZ",
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_NNODES",
    "SLURM_NTASKS",
    "GITHUB_REPOSITORY",
    "GITHUB_WORKFLOW",
    "GITHUB_RUN_ID",
    "GITHUB_SHA",
    "CI_PROJECT_PATH",
    "CI_PIPELINE_ID",
    "CI_COMMIT_SHA",
];

/// A command line as it may be recorded. A word with blanks in it is shown only where a shell gets it as its script; it
/// is looked at word by word then, and cut at the first command that names a secret.
pub fn command(words: &[String]) -> Vec<String> {
    let mut reader = WordReader::default();
    let mut left = MAX_TOTAL_BYTES;
    let mut out = vec![];
    for word in words.iter().take(MAX_WORDS) {
        let shown = reader.word(word);
        let Some(rest) = left.checked_sub(shown.len()) else { break };
        left = rest;
        out.push(shown);
    }
    if out.len() < words.len() {
        out.push("…".to_owned());
    }
    out
}

/// The variables of an environment that may be recorded.
pub fn environment(set: &[(String, String)]) -> BTreeMap<String, String> {
    let allowed = set.iter().filter(|(name, _)| VARIABLES.contains(&name.as_str()));
    let value = |name: &str, value: &str| {
        if COMMITS.contains(&name) && is_commit(value) {
            value.to_owned()
        } else {
            shown(value, WordContext::Harmless)
        }
    };
    allowed.map(|(name, set)| (name.clone(), value(name, set))).collect()
}

/// Variables that hold the name of a commit.
const COMMITS: [&str; 2] = ["GITHUB_SHA", "CI_COMMIT_SHA"];

fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    /// None's value.
    #[default]
    Plain,
    /// The value of an option.
    Value(Class),
    /// The value of an option of one letter that may be anything: only a path is shown.
    Risky,
}

/// Goes through the words of a command.
#[derive(Debug, Default)]
struct WordReader {
    next: Next,
    /// Nothing but names of options is shown any more: `login ann rosebud`.
    is_closed: bool,
    has_program: bool,
    has_shell: bool,
    takes_script: bool,
}

impl WordReader {
    fn word(&mut self, word: &str) -> String {
        let takes_script = std::mem::take(&mut self.takes_script);
        if word.contains(char::is_whitespace) {
            let next = std::mem::take(&mut self.next);
            let is_script = takes_script && !self.is_closed && !matches!(next, Next::Value(Class::Secret));
            return if is_script { script(word) } else { HIDDEN.to_owned() };
        }
        if !std::mem::replace(&mut self.has_program, true) && is_program(word) {
            self.has_shell = SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
            return folder(word);
        }
        self.has_shell |= SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
        self.one(word)
    }

    fn one(&mut self, word: &str) -> String {
        let was = std::mem::take(&mut self.next);
        if was == Next::Value(Class::Secret) && !(word.starts_with("--") && is_name(word)) {
            // `password = x`, `Bearer x`: it is not the mark, and more follows.
            if !word.contains(char::is_alphanumeric) || is_strong(word) && is_name(word.trim_end_matches(':'))
            {
                self.next = was;
            }
            return HIDDEN.to_owned();
        }
        if let Some(shown) = assignment(word) {
            return if self.is_closed { HIDDEN.to_owned() } else { shown };
        }
        if word.starts_with('-') && word.parse::<f64>().is_err() {
            return self.option(word);
        }
        if self.is_closed {
            return HIDDEN.to_owned();
        }
        match was {
            _ if is_strong(word) && !word.contains('/') && !is_path(word) => {
                self.is_closed = true;
                // `login`; but `monkey` may be what is to be kept.
                let is_verb = was != Next::Risky
                    && is_name(word)
                    && is_known(word.rsplit(['.', '_', '-']).next().unwrap_or_default());
                if is_verb { word.to_owned() } else { HIDDEN.to_owned() }
            }
            // `Authorization:`
            _ if word.strip_suffix(':').is_some_and(|name| class(name) != Class::Harmless) => {
                self.next = Next::Value(Class::Secret);
                HIDDEN.to_owned()
            }
            Next::Plain | Next::Value(Class::Harmless) => shown(word, WordContext::Harmless),
            Next::Risky => risky(word),
            Next::Value(Class::Secret | Class::Unknown) => shown(word, WordContext::Unknown),
        }
    }

    fn option(&mut self, word: &str) -> String {
        if word == "-" || word == "--" {
            return word.to_owned();
        }
        if word.starts_with("--") {
            if is_name(word) {
                self.next = Next::Value(class(word));
                return word.to_owned();
            }
            self.next = Next::Value(Class::Secret);
            return HIDDEN.to_owned();
        }
        let letters = word.strip_prefix('-').unwrap_or(word);
        let mut chars = letters.chars();
        let first = chars.next().unwrap_or_default();
        let rest = chars.as_str();
        self.takes_script = self.has_shell && letters.ends_with('c') && letters.len() <= 4;
        if rest.is_empty() && first.is_ascii_alphanumeric() {
            self.next = match first {
                _ if RISKY_LETTERS.contains(first) => Next::Risky,
                _ if HARMLESS_LETTERS.contains(first) => Next::Value(Class::Harmless),
                _ => Next::Value(Class::Unknown),
            };
            return word.to_owned();
        }
        // `-lr`, `-passin`, `-learning_rate`: a name behind one dash.
        let is_long =
            is_name(letters) && letters.bytes().all(|b| b.is_ascii_lowercase() || b"_-".contains(&b));
        let is_flags = letters.len() <= 4 && letters.bytes().all(|b| b.is_ascii_lowercase());
        let named = class(letters);
        let joins_risk = RISKY_LETTERS.contains(first);
        if is_long && (is_known(letters) || !joins_risk && (is_flags || named != Class::Unknown)) {
            let ends_in_risk = letters.chars().next_back().is_some_and(|last| RISKY_LETTERS.contains(last));
            self.next =
                if named == Class::Unknown && ends_in_risk { Next::Risky } else { Next::Value(named) };
            return word.to_owned();
        }
        // `-n4`; but `-pSECRET` has its value with it.
        if !joins_risk && rest.len() <= 4 && rest.parse::<f64>().is_ok() {
            return word.to_owned();
        }
        // `-sSu ann:x`
        let ends_in_risk = letters.chars().next_back().is_some_and(|last| RISKY_LETTERS.contains(last));
        self.next = match is_strong(letters) {
            true => Next::Value(Class::Secret),
            false if ends_in_risk => Next::Risky,
            false => Next::Plain,
        };
        if first.is_ascii_alphabetic() { format!("-{first}{HIDDEN}") } else { HIDDEN.to_owned() }
    }
}

/// Whether a word can be that of a program: a name or a path, which says more than its form gives away.
fn is_program(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b))
}

/// A value that is shown only if it is a path.
fn risky(word: &str) -> String {
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| word.starts_with(start));
    if is_path { shown(word, WordContext::Unknown) } else { HIDDEN.to_owned() }
}

/// `name=value`, also `--set=a.b=value`; none for what is no such word.
fn assignment(word: &str) -> Option<String> {
    let (name, value) = word.split_once('=')?;
    // `+trainer.x=1`, `++x=1`, `~x=1` of hydra.
    let bare = name.trim_start_matches(['+', '~']);
    if !is_name(bare) {
        return Some(HIDDEN.to_owned());
    }
    let shown = match class(bare) {
        Class::Secret => HIDDEN.to_owned(),
        // `--set=db.password=x`: the inner name counts.
        _ if value.contains('=') => assignment(value).unwrap_or_else(|| HIDDEN.to_owned()),
        Class::Harmless => shown(value, WordContext::Harmless),
        Class::Unknown => shown(value, WordContext::Unknown),
    };
    Some(format!("{name}={shown}"))
}

/// A script, up to the command that names a secret.
fn script(text: &str) -> String {
    let mut reader = WordReader::default();
    let mut parts: Vec<String> = vec![];
    // The beginning of the command that is being read, with all that is piped into it.
    let mut begun = 0;
    let mut quote: Option<char> = None;
    for part in text.split_whitespace().take(MAX_WORDS) {
        if SEPARATORS.contains(&part) && quote.is_none() {
            reader = WordReader::default();
            parts.push(part.to_owned());
            begun = if part == "|" { begun } else { parts.len() };
            continue;
        }
        if names_a_secret(part) {
            parts.truncate(begun);
            parts.push(HIDDEN.to_owned());
            return parts.join(" ");
        }
        let was_quoted = quote.is_some();
        for c in part.chars() {
            match quote {
                Some(open) if c == open => quote = None,
                None if "'\"`".contains(c) => quote = Some(c),
                _ => {}
            }
        }
        if was_quoted || quote.is_some() {
            reader.next = Next::Plain;
            parts.push(HIDDEN.to_owned());
            continue;
        }
        let ends = part.ends_with(';');
        parts.push(in_script(&mut reader, part));
        if ends {
            reader = WordReader::default();
            begun = parts.len();
        }
    }
    parts.join(" ")
}

/// A word of a script, which may have quotes, a redirection before it and marks around it.
fn in_script(reader: &mut WordReader, part: &str) -> String {
    let redirect = part.trim_start_matches(['0', '1', '2', '&']).trim_start_matches(['<', '>', '&']);
    let redirect = if part.contains(['<', '>']) { redirect } else { part };
    let bare = redirect.trim_start_matches(['(', '{']).trim_end_matches([';', ')', '}', ',']);
    let bare = match bare.as_bytes() {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => {
            std::str::from_utf8(inner).expect("quotes are of one byte")
        }
        _ => bare,
    };
    let is_variable = bare.strip_prefix('$').is_some_and(|name| {
        let name = name.trim_start_matches('{').trim_end_matches('}');
        ["@", "*", "#", "?", "$", "!"].contains(&name)
            || name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    // `2>&1` and the like.
    if bare.is_empty() || is_variable || redirect != part && bare.bytes().all(|b| b.is_ascii_digit()) {
        reader.next = Next::Plain;
        return part.to_owned();
    }
    let shown = reader.one(bare);
    if shown == bare { part.to_owned() } else { shown }
}

/// Whether a word of a script, or a name anywhere in it, says that a secret follows or stands in it.
fn names_a_secret(word: &str) -> bool {
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let is_path = word.trim_start_matches(['<', '>', '&', '2', '1']).starts_with(['/', '.', '~']);
    let is_short =
        ["-p", "-u", "-k"].iter().any(|option| word.starts_with(option) && !word.starts_with("--"));
    is_short
        || !is_path && word.split(|c| !is_in_name(c)).any(|name| !name.is_empty() && is_strong(name))
        || word.contains('=') && word.split('=').any(|name| is_name(name) && class(name) == Class::Secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> String {
        command(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn nothing_behind_the_name_of_a_secret_in_a_longer_text_is_shown() {
        for text in [
            r#"{"password": "hunter two", "n": 1}"#,
            "{'token': 'rosebud three'}",
            "d = {\"api_key\": \"rosebud\"}; run()",
            "curl --password=\"rose bud6\" x; X_TOKEN=\"rosebud7 rosebud8\" y",
            "mysql -p foo; echo",
        ] {
            let shown = command(&["sh".into(), "-c".into(), text.into()]).join(" ");
            for secret in ["hunter", "two", "rosebud", "three", "bud6", "rosebud8", "foo"] {
                assert!(!shown.contains(secret), "{text:?} is shown as {shown:?}");
            }
        }
        for word in ["++token=rosebud", "~auth:rosebud", "-pfoo", "-pfoo;", "{\"token\":\"rosebud\"}"] {
            let shown = command(&["run".into(), word.into()]).join(" ");
            assert!(!shown.contains("rosebud") && !shown.contains("foo"), "{word:?} is shown as {shown:?}");
        }
        let harmless = command(&["sh".into(), "-c".into(), "sort raw/words > out && wc -l out".into()]);
        assert_eq!(harmless[2], "sort raw/words > out && wc -l out");
    }

    #[test]
    fn what_is_wanted_is_recorded_as_it_is() {
        for line in [
            "python3 train.py --lr 0.1 --model resnet50 --epochs=3 --seed -1 --max-tokens 512",
            "torchrun --nproc_per_node 8 -m pkg.train data/v3/train.csv proj/ds:v3 --amp",
            "tar -xzf in.tar.gz -C /artifacts/p/a/staging",
            "git checkout feature/new-loss",
            "python train.py model=resnet50 trainer.max_epochs=10 data.path=/data/v3 --lr=1e-3",
            "bash -x run.sh ./conf.yaml --model bert-base-uncased --betas 0.9,0.999",
            "s5cmd cp s3://bucket/prefix/x .",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(shown(&words), line);
        }
        let script =
            "tr a-z A-Z </m/p/raw/latest/d >/m/p/clean/staging/d && mv /m/p/clean/staging /m/p/clean/next";
        assert_eq!(shown(&["sh", "-c", script]), format!("sh -c {script}"));
    }

    #[test]
    fn no_secret_is_recorded_however_it_is_given() {
        const SECRET: &str = "hunter2";
        for words in [
            vec!["x", "--password", SECRET],
            vec!["x", "--password=hunter2", "y"],
            vec!["x", "--api-key", SECRET],
            vec!["x", "--apiKey", SECRET],
            vec!["x", "--wandb_api_key=hunter2"],
            vec!["x", "--db-passwd", SECRET],
            vec!["x", "--hf-token", SECRET],
            vec!["x", "-phunter2"],
            vec!["docker", "login", "-u", "ann", "-p", SECRET],
            vec!["curl", "-u", "ann:hunter2", "http://h"],
            vec!["openssl", "rsa", "-passin", "pass:hunter2"],
            vec!["openssl", "rsa", "pass:hunter2"],
            vec!["env", "TOKEN=hunter2", "x"],
            vec!["env", "AWS_SECRET_ACCESS_KEY=hunter2", "x"],
            vec!["curl", "-H", "Authorization: Bearer hunter2", "http://h"],
            vec!["curl", "-H", "X-Api-Key: hunter2", "http://h"],
            vec!["curl", "https://ann:hunter2@host/x"],
            vec!["curl", "https://host/x?sig=hunter2"],
            vec!["sh", "-c", "WANDB_API_KEY=hunter2 python3 train.py"],
            vec!["sh", "-c", "export PGPASSWORD='hunter2'; psql"],
            vec!["sh", "-c", "login --password 'hunter2' && python3 x.py"],
            vec!["python3", "-c", "password = 'hunter2'"],
            vec!["python3", "-c", "password == hunter2"],
            vec!["x", "--password", "=", SECRET],
            vec!["python3", "-c", "f(password='hunter2')"],
            vec!["python3", "-c", "print(1);token=\"hunter2\""],
        ] {
            let shown = shown(&words);
            assert!(!shown.contains(SECRET), "{words:?}: {shown}");
            assert!(shown.starts_with(words[0]), "{shown}");
        }
        for key in [
            "sk-proj-abcd1234efgh",
            "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "AKIAIOSFODNN7EXAMPLE",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
            "0f3a9c7e1b5d2846a0c9f7e3b1d58264",
            "correct horse battery; staple\u{7}",
        ] {
            let shown = shown(&["x", key]);
            assert!(!shown.contains(key), "{key}: {shown}");
        }
    }

    #[test]
    fn an_environment_is_recorded_by_a_list_of_names() {
        let set = [("RANK", "3"), ("AWS_SECRET_ACCESS_KEY", "x"), ("HOME", "/root"), ("LANG", "C.UTF-8")];
        let set: Vec<_> = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kept: Vec<_> = environment(&set).into_iter().collect();
        assert_eq!(kept, [("LANG".to_owned(), "C.UTF-8".to_owned()), ("RANK".into(), "3".into())]);
    }

    #[test]
    fn long_command_lines_are_cut() {
        let words: Vec<String> = (0..100_000).map(|i| format!("data/{i}")).collect();
        let kept = command(&words);
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (MAX_WORDS + 1, Some("…")));
    }
}
