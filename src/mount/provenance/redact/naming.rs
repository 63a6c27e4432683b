//! What the name of an option, a variable or a member says about its value.

/// What a name says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// It is, or may be, a secret.
    Secret,
    /// It is known to be harmless.
    Harmless,
    /// Nothing.
    Unknown,
}

/// Words that announce a secret in any text, alone or in a name.
const STRONG: &str = "apikey auth authenticate authentication authorization basic bearer cookie credential credentials creds \
    decrypt jwt key keys login pass passphrase passwd password private pw pwd secret secrets session sig \
    signature sshpass token unlock";
/// Words that announce a secret as the value of an option or a variable.
const WEAK: &str = "access account acct apitoken cert certificate code conn connection connstr csrf dsn email h hash header \
    headers hmac id k license mail mfa nonce otp p pat phrase pin proxy salt sas seedphrase sid ssn totp u \
    user username vault webhook";
/// Ends of names of secrets that are written without separators.
const STRONG_ENDS: &str =
    "accesskey apikey credentials jwt key pass passphrase passwd password pw pwd secret token";
/// Parts of names of secrets that are written without separators.
const STRONG_PARTS: &str = "passw secret credential apikey userpw authtok";
/// Words of names whose values are worth recording, and are words and numbers.
const HARMLESS: &str = "accelerator accumulation activation algo algorithm alpha amp arch architecture attention augment \
    augmentation backbone backend batch batches beam beams beta bias bins block branch bucket cache \
    checkpoint checkpoints chunk ckpt class classes clip cluster codec column columns compression conf \
    config configs context count cpus criterion crop cuda data dataset datasets date decay decoder degree \
    delimiter depth dest destination device devices dim dims dir directory distance dropout dtype duration \
    embedding encoder encoding end engine epoch epochs epsilon estimators eval evaluation exclude experiment \
    factor feature features field file files filter fold folder folds format fps framework freq frequency \
    from gamma gpu gpus grad gradient group groups head heads height hidden horizon image images include \
    index init input inputs interval iter iterations iters jobs kernel kind label labels lambda lang \
    language layer layers leaf learner learning len length level limit local log logger loss lr max mem \
    memory method metric metrics min mode model models module momentum n neighbors network nnodes node nodes \
    norm normalization nproc nu num objective optim optimizer order out output outputs padding parallel \
    partition path patience penalty pooling port precision preset prefix profile project queue rank ranks \
    rate ratio region regularization repeat replicas resolution root rounds sample sampler samples scale \
    scheduler seed seq shape shard shards shots shuffle size split splits src stage start step steps \
    strategy stride subset suffix tag tags target task tasks temperature";
/// Further ones, which stay harmless in a name that a secret's part or end is found in: `tokenizer`.
const HARMLESS_MORE: &str = "test threads threshold time timeout tokenizer tokens topk train training transform trees trials type val \
    valid validation variant verbosity version vocab warmup weight weights width window words worker workers \
    world zone";

/// Classifies the value of a name. `apiKey`, `api-key` and `API_KEY` are one name.
pub(super) fn class(name: &str) -> Class {
    let words = words(name);
    let is_in = |list: &str| words.iter().any(|word| has(list, word));
    if is_in(STRONG) || is_in(WEAK) || holds_strong(&words) {
        Class::Secret
    } else if is_in(HARMLESS) || is_in(HARMLESS_MORE) {
        Class::Harmless
    } else {
        Class::Unknown
    }
}

/// Returns whether a word alone, anywhere, announces a secret: `login`, `--password`, `TOKEN`.
pub(super) fn is_strong(name: &str) -> bool {
    let words = words(name);
    words.iter().any(|word| has(STRONG, word)) || holds_strong(&words)
}

/// Returns whether a word is on any list.
pub(super) fn is_known(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    [STRONG, WEAK, STRONG_ENDS, HARMLESS, HARMLESS_MORE].iter().any(|list| has(list, &word))
}

/// Returns whether a list, its words separated by blanks, has a word.
fn has(list: &str, word: &str) -> bool {
    list.split(' ').any(|listed| listed == word)
}

fn holds_strong(words: &[String]) -> bool {
    let together = words.concat();
    let is_known = |word: &String| has(HARMLESS_MORE, word);
    !words.iter().any(is_known)
        && (STRONG_ENDS.split(' ').any(|end| together.ends_with(end))
            || STRONG_PARTS.split(' ').any(|part| together.contains(part)))
}

/// Splits a name into its words, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut spaced = String::new();
    let mut before_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && before_lower {
            spaced.push('-');
        }
        before_lower = c.is_ascii_lowercase();
        spaced.push(c.to_ascii_lowercase());
    }
    let words = spaced.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_classified_by_their_words() {
        for name in [
            "--password",
            "--dbpass",
            "--mypw",
            "--jwt",
            "--pat",
            "--pin",
            "--access_code",
            "--userpwd",
            "--proxy",
            "--dsn",
            "--user",
            "X-Api-Key",
            "apiKey",
            "WANDB_API_KEY",
            "PGPASSWORD",
            "db.password",
            "--client-secret",
            "--otp",
            "--token2",
            "--account-id",
            "--license",
            "--sshkey",
        ] {
            assert_eq!(class(name), Class::Secret, "{name}");
        }
        for name in [
            "--lr",
            "--model",
            "--max-tokens",
            "--tokenizer",
            "--batch_size",
            "trainer.max_epochs",
            "--nproc_per_node",
            "--path",
            "--patience",
            "--output-dir",
            "--num-workers",
        ] {
            assert_eq!(class(name), Class::Harmless, "{name}");
        }
        for name in ["--vault2x", "--foo", "--bar-baz"] {
            assert_ne!(class(name), Class::Harmless, "{name}");
        }
        assert!(is_strong("login") && is_strong("TOKEN") && !is_strong("user") && !is_strong("tokenizer"));
    }
}
