//! What may be recorded of command lines and environments: words of forms that are on a list. All others are replaced.
//!
//! A secret has no form of its own, so the list says what is let through: option names, numbers, paths, references and
//! short plain words, and of none of them what stands where secrets stand (behind `--password`, `token=`, `Bearer`).

use std::collections::BTreeMap;

/// What stands for a word that is not recorded.
pub const HIDDEN: &str = "***";
/// Words of a command line that are recorded, and their bytes in all.
const MAX_WORDS: usize = 256;
const MAX_TOTAL_BYTES: usize = 8 << 10;
/// The longest word that is recorded.
const MAX_WORD_BYTES: usize = 512;
/// The longest plain word: what is longer is rather a key than a name.
const MAX_PLAIN_BYTES: usize = 32;
/// A word that mixes letters and digits is taken for a key from this length on.
const MAX_MIXED_BYTES: usize = 20;

/// What is shorter may be a path.
const MIN_BASE64_BYTES: usize = 32;

/// Words of names that say that the value is a secret.
const SECRET_WORDS: [&str; 24] = [
    "password",
    "passwd",
    "passphrase",
    "pass",
    "pwd",
    "pw",
    "secret",
    "secrets",
    "token",
    "key",
    "apikey",
    "auth",
    "authorization",
    "authentication",
    "bearer",
    "basic",
    "credential",
    "credentials",
    "creds",
    "cookie",
    "session",
    "signature",
    "sig",
    "private",
];
/// Options of well-known programs behind which secrets stand, alone or with a user (`curl -u ann:x`).
const SECRET_OPTIONS: [&str; 5] = ["-p", "-u", "--user", "--proxy-user", "-passin"];
/// How names end that are written without anything between their words.
const SECRET_ENDS: [&str; 8] =
    ["password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "credentials"];

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

/// A command line as it may be recorded. A word with blanks in it (a script behind `-c`) is looked at word by word, up
/// to the first name of a secret: its value may be quoted, and have blanks itself.
pub fn command(words: &[String]) -> Vec<String> {
    let mut next = Next::Plain;
    let mut left = MAX_TOTAL_BYTES;
    let mut out = vec![];
    for word in words.iter().take(MAX_WORDS) {
        let shown = if word.contains(char::is_whitespace) {
            if next == Next::Secret { HIDDEN.to_owned() } else { script(word) }
        } else {
            one(word, &mut next)
        };
        next = if word.contains(char::is_whitespace) { Next::Plain } else { next };
        let Some(rest) = left.checked_sub(shown.len()) else { break };
        left = rest;
        out.push(shown);
    }
    if out.len() < words.len() {
        out.push("…".to_owned());
    }
    out
}

fn script(text: &str) -> String {
    let mut next = Next::Plain;
    let mut parts = vec![];
    for part in text.split_whitespace().take(MAX_WORDS) {
        if names_a_secret(part) {
            parts.push(HIDDEN.to_owned());
            break;
        }
        parts.push(one(part, &mut next));
    }
    parts.join(" ")
}

/// Whether a word, or a name anywhere in it, says that a secret follows or stands in it.
fn names_a_secret(word: &str) -> bool {
    let bare = word.trim_matches(|c: char| "'\"(){};,".contains(c));
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    SECRET_OPTIONS.contains(&bare)
        || word.split(|c| !is_in_name(c)).any(|name| !name.is_empty() && is_secret_name(name))
}

/// The variables of an environment that may be recorded.
pub fn environment(set: &[(String, String)]) -> BTreeMap<String, String> {
    let allowed = set.iter().filter(|(name, _)| VARIABLES.contains(&name.as_str()));
    allowed.map(|(name, value)| (name.clone(), one(value, &mut Next::Plain))).collect()
}

/// A URL without credentials, query and fragment; none if it is not one that is understood.
pub fn url(text: &str) -> Option<String> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = rest.split_once('/').map_or((rest, ""), |(host, path)| (host, path));
        let host = host.rsplit('@').next().unwrap_or_default();
        let plain = |text: &str, more: &str| {
            text.bytes().all(|b| b.is_ascii_alphanumeric() || more.as_bytes().contains(&b))
        };
        let is_path = path.split('/').all(|part| part.is_empty() || is_plain(part));
        let ok = !scheme.is_empty() && plain(scheme, "+.-") && plain(host, ".-:[]") && is_path;
        return ok.then(|| {
            if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
        });
    }
    // git@host:path
    let (host, path) = text.split_once(':')?;
    let host = host.rsplit('@').next()?;
    (is_plain(host) && path.split('/').all(is_plain)).then(|| format!("{host}:{path}"))
}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Plain,
    /// The value of something secret.
    Secret,
}

/// One word as it may be recorded; `next` says what it is, and is told what follows it.
fn one(word: &str, next: &mut Next) -> String {
    let was = std::mem::replace(next, Next::Plain);
    let bare = word.trim_matches(|c: char| "'\"(){};,".contains(c));
    if was == Next::Secret && !bare.is_empty() {
        // `--password` without a value, and another option.
        if !bare.starts_with("--") {
            // `Authorization: Bearer x` says twice that a secret follows, and in `password = 'x'` it is not the `=`.
            let is_mark = !bare.contains(char::is_alphanumeric);
            let goes_on = is_mark || is_secret_name(bare.trim_end_matches(':'));
            *next = if goes_on { Next::Secret } else { Next::Plain };
            return HIDDEN.to_owned();
        }
    }
    if let Some((name, value)) = bare.split_once('=').filter(|(name, _)| is_name(name)) {
        let shown = if is_secret_name(name) { HIDDEN.to_owned() } else { value_of(value) };
        return format!("{name}={shown}");
    }
    // `++token=x`, `{"token":x}`: names in other dress.
    if let Some((name, _)) = bare.split_once(['=', ':'])
        && !is_name(name)
        && !bare.contains("://")
        && names_a_secret(name)
    {
        return HIDDEN.to_owned();
    }
    // `pass:x` of openssl, `X-Api-Key:x` of HTTP; a URL is looked at as a whole.
    if let Some((name, value)) = bare.split_once(':')
        && is_name(name)
        && is_secret_name(name)
        && !value.is_empty()
    {
        return format!("{name}:{HIDDEN}");
    }
    if let Some(name) = bare.strip_suffix(':').filter(|name| is_name(name) && is_secret_name(name)) {
        *next = Next::Secret;
        return format!("{name}:");
    }
    if bare.starts_with('-') && bare.parse::<f64>().is_err() {
        return option(bare, next);
    }
    if is_secret_name(bare) && bare.len() <= MAX_PLAIN_BYTES && is_plain(bare) {
        *next = Next::Secret;
        return bare.to_owned();
    }
    value_of(word)
}

fn option(word: &str, next: &mut Next) -> String {
    if is_secret_name(word) && is_name(word) || SECRET_OPTIONS.contains(&word) {
        *next = Next::Secret;
        return word.to_owned();
    }
    let letters = word.strip_prefix('-').unwrap_or(word);
    if word.starts_with("--") {
        return if is_name(word) && word.len() <= MAX_PLAIN_BYTES * 2 {
            word.to_owned()
        } else {
            HIDDEN.to_owned()
        };
    }
    // `-n4`, `-xzf`, `-lr`: but `-pSECRET` has its value with it.
    let rest: String = letters.chars().skip(1).collect();
    let first: String = letters.chars().take(1).collect();
    let is_flags = rest.len() <= 3 && first != "p" && rest.bytes().all(|b| b.is_ascii_lowercase());
    let is_long =
        letters.split('_').all(|part| part.len() >= 2 && part.bytes().all(|b| b.is_ascii_lowercase()))
            && letters.contains('_');
    if first.is_empty() || rest.is_empty() || is_flags || is_long || rest.parse::<f64>().is_ok() {
        return word.to_owned();
    }
    format!("-{first}{HIDDEN}")
}

fn value_of(word: &str) -> String {
    let bare = word.trim_matches(|c: char| "'\"(){};,".contains(c));
    if word.len() > MAX_WORD_BYTES || is_like_base64(bare) {
        return HIDDEN.to_owned();
    }
    if bare.is_empty()
        || bare.parse::<f64>().is_ok()
        || ["|", "||", "&&", "&", ">", ">>", "<", "2>&1", "!", ".", ".."].contains(&bare)
    {
        return word.to_owned();
    }
    if bare.contains("://") {
        return url(bare).unwrap_or_else(|| HIDDEN.to_owned());
    }
    // A list, a path, a reference: all their parts are plain.
    let redirect = bare.trim_start_matches(['>', '<', '&', '0', '1', '2']);
    let body = if redirect.len() < bare.len() && bare.contains(['>', '<']) { redirect } else { bare };
    let mut parts = body.split(['/', ',', ':', '+', '@', '=', '*', '~', '%', '$', '[', ']', '?']);
    if parts.all(|part| part.is_empty() || is_plain(part)) { word.to_owned() } else { HIDDEN.to_owned() }
}

/// A plain word: of few letters, digits and marks, and not as random as a key.
fn is_plain(word: &str) -> bool {
    let bytes = word.as_bytes();
    let ok = |b: &u8| b.is_ascii_alphanumeric() || b"._-".contains(b);
    if bytes.is_empty() || !bytes.iter().all(ok) {
        return false;
    }
    // Names are made of words; each of them by itself may look like a key.
    word.split(['.', '_', '-']).all(|part| {
        let digits = part.bytes().filter(u8::is_ascii_digit).count();
        let upper = part.bytes().filter(u8::is_ascii_uppercase).count();
        let lower = part.bytes().filter(u8::is_ascii_lowercase).count();
        let is_mixed = digits > 0 && upper + lower > 0 || upper > 1 && lower > 1;
        let is_word = digits == 0 && (upper <= 1 || lower == 0);
        // The names of commits and digests are wanted.
        let is_hash = [40, 64].contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        part.is_empty()
            || is_word && part.len() <= MAX_PLAIN_BYTES
            || is_mixed && part.len() < MAX_MIXED_BYTES
            || digits == part.len()
            || is_hash
    }) && !has_key_prefix(word)
}

/// Whether a word looks like bytes in base64, of which slashes make what looks like a path.
fn is_like_base64(word: &str) -> bool {
    let count = |is: fn(&u8) -> bool| word.bytes().filter(is).count();
    word.len() >= MIN_BASE64_BYTES
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/+=".contains(&b))
        && count(u8::is_ascii_uppercase) >= 4
        && count(u8::is_ascii_lowercase) >= 4
        && count(u8::is_ascii_digit) >= 1
}

/// Prefixes that services give their keys.
fn has_key_prefix(word: &str) -> bool {
    const PREFIXES: [&str; 18] = [
        "sk-",
        "pk-",
        "rk-",
        "ghp_",
        "gho_",
        "ghs_",
        "ghu_",
        "github_pat_",
        "glpat-",
        "hf_",
        "xoxb-",
        "xoxp-",
        "AKIA",
        "ASIA",
        "AIza",
        "eyJ",
        "ya29.",
        "npm_",
    ];
    PREFIXES.iter().any(|prefix| word.starts_with(prefix) && word.len() >= prefix.len() + 4)
}

/// Whether a text can be the name of an option or a variable.
fn is_name(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// Whether a name says that its value is a secret: by one of its words, or by its end.
pub fn is_secret_name(name: &str) -> bool {
    // `apiKey` and `api-key` are the same words.
    let mut spaced = String::new();
    let mut before_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before_lower {
            spaced.push('-');
        }
        before_lower = c.is_ascii_lowercase();
        spaced.push(c.to_ascii_lowercase());
    }
    let mut words = spaced.split(|c: char| !c.is_ascii_alphanumeric());
    let together: String = spaced.chars().filter(char::is_ascii_alphanumeric).collect();
    words.any(|word| SECRET_WORDS.contains(&word)) || SECRET_ENDS.iter().any(|end| together.ends_with(end))
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
            "git checkout 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
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
    fn remotes_lose_their_credentials() {
        for (given, want) in [
            ("https://ann:pw@git.example.org/team/x.git?a=b", Some("https://git.example.org/team/x.git")),
            ("https://oauth2:glpat-1234567@gitlab.com/t/x", Some("https://gitlab.com/t/x")),
            ("git@github.com:team/x.git", Some("github.com:team/x.git")),
            ("ssh://git@host:22/x", Some("ssh://host:22/x")),
            ("/srv/git/x", None),
        ] {
            assert_eq!(url(given).as_deref(), want, "{given}");
        }
    }

    #[test]
    fn long_command_lines_are_cut() {
        let words: Vec<String> = (0..100_000).map(|i| format!("data/{i}")).collect();
        let kept = command(&words);
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (MAX_WORDS + 1, Some("…")));
    }
}
