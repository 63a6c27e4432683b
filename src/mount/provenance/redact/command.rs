//! A command line as it may be recorded.

use super::mask::HIDDEN;
use super::naming::Class;
use super::path::folder;
use super::script::script;
use super::words::{Next, WordReader};

/// The most words of a command line that are recorded, and their bytes altogether.
const MAX_WORDS: usize = 256;
const MAX_TOTAL_BYTES: usize = 8 << 10;
/// Programs that take a script after `-c`.
const SHELLS: [&str; 8] = ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "busybox"];

/// Returns a command line as it may be recorded. A word that contains blanks is shown only if it is the script of a shell;
/// it is then judged word by word, and cut at the first command that names a secret.
pub fn command(words: &[String]) -> Vec<String> {
    let mut reader = CommandReader::default();
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

/// Judges the words of a command line, one after the other.
#[derive(Debug, Default)]
struct CommandReader {
    words: WordReader,
    has_program: bool,
}

impl CommandReader {
    fn word(&mut self, word: &str) -> String {
        let takes_script = std::mem::take(&mut self.words.takes_script);
        if word.contains(char::is_whitespace) {
            let next = std::mem::take(&mut self.words.next);
            let is_script =
                takes_script && !self.words.is_closed && !matches!(next, Next::Value(Class::Secret));
            return if is_script { script(word) } else { HIDDEN.to_owned() };
        }
        if !std::mem::replace(&mut self.has_program, true) && is_program(word) {
            self.words.has_shell = SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
            return folder(word);
        }
        self.words.has_shell |= SHELLS.contains(&word.rsplit('/').next().unwrap_or_default());
        self.words.word(word)
    }
}

/// Returns whether a word can name a program. Programs are shown even if their form alone would not be.
fn is_program(word: &str) -> bool {
    word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b))
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
    fn long_command_lines_are_cut() {
        let words: Vec<String> = (0..100_000).map(|i| format!("data/{i}")).collect();
        let kept = command(&words);
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (MAX_WORDS + 1, Some("…")));
    }
}
