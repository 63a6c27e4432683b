//! A secret of any kind, put into each of many command lines that people type, never shows.

use super::command::command;

/// Command lines in which the secret may be anything, also a word or a number: a name says that it is one. Words are
/// separated by `|`.
const NAMED: &str = r#"x|--password|{}
x|--password={}
x|--api-key|{}
x|--apiKey|{}
x|--wandb_api_key={}
x|--db-passwd|{}
x|--dbpass|{}
x|--dbpass={}
x|--mypw|{}
x|--hf-token|{}
x|--token2|{}
x|--jwt|{}
x|--jwt={}
x|--pat|{}
x|--pat={}
x|--pin|{}
x|--pin={}
x|--otp|{}
x|-k|{}
x|-k{}
x|-p{}
x|-p|{}
x|-u|ann:{}
x|-u|{}
x|--user=ann:{}
x|--user|ann:{}
x|--userpwd|ann:{}
x|--userpwd={}
x|--proxy|http://ann:{}@proxy:3128
x|--proxy={}
x|--proxy-user|ann:{}
x|--dsn=user/{}@host
x|--dsn|postgres://u:{}@h/db
x|--access_code|{}
x|--access_code={}
x|--set=db.password={}
x|--set|db.password={}
helm|upgrade|--set|auth.rootPassword={}|chart
x|--client-secret|{}
x|--client_secret={}
x|--private-key|{}
x|--session-token|{}
x|--cookie|{}
x|-b|{}
x|-H|X-Vault: {}
x|-H|Authorization: Bearer {}
x|-H|X-Api-Key:{}
x|-HX-Api-Key:{}
x|--header|X-Vault: {}
x|--header=X-Vault:{}
x|{"token": "{}"}
x|{"token":"{}"}
x|--config|{"db": {"pw": "{}"}}
x|--cfg={"token":"{}"}
x|['{}']
x|token={}
x|db.password={}
x|++token={}
x|~auth:{}
x|PGPASSWORD={}|psql
env|TOKEN={}|x
env|AWS_SECRET_ACCESS_KEY={}|x
env|WANDB_API_KEY={}|python|train.py
export|MY_PW={}
wandb|login|{}
wandb|login|--relogin|{}
huggingface-cli|login|--token|{}
docker|login|-u|ann|-p|{}|registry.example.com
docker|login|--username|ann|--password|{}
docker|run|-e|API_TOKEN={}|image
sshpass|-p|{}|ssh|host
sshpass|-p{}|ssh|host
mysql|-uroot|-p{}|db
redis-cli|-a|{}|ping
ldapsearch|-w|{}
curl|-u|ann:{}|https://example.com/x
curl|-sSu|ann:{}|https://example.com/x
curl|https://ann:{}@example.com/x
curl|https://{}@example.com/x
curl|https://example.com/x?sig={}
curl|https://example.com/x?a=1&token={}
curl|https://example.com/x#{}
git|clone|https://oauth2:{}@gitlab.com/t/x.git
git|-c|http.extraheader=AUTHORIZATION: basic {}|fetch
git|config|user.password|{}
git|config|--global|github.token|{}
openssl|rsa|-passin|pass:{}
openssl|enc|-k|{}
gpg|--passphrase|{}|-d|x
vault|login|{}
az|login|-u|ann|-p|{}
aws|configure|set|aws_secret_access_key|{}
kubectl|create|secret|generic|x|--from-literal=k={}
gcloud|auth|activate|{}
sh|-c|WANDB_API_KEY={} python3 train.py
sh|-c|export PGPASSWORD='{}'; psql
bash|-lc|echo {} \| docker login -u x --password-stdin
bash|-c|curl -H "X-Vault: {}" https://example.com
bash|-c|mysql -u root -p{} db
sh|-ec|cd /x && wandb login {} && python train.py
sh|-c|login --password '{} {}'
python3|-c|password = '{}'
python3|-c|connect("{}")
ssh|host|run --with {}
su|-c|x {}
x|ann:{}
x|ann@{}:y@host
x|a=b={}"#;

/// Command lines in which nothing says what the secret is, so that only its form can: it is none of a word's.
const UNNAMED: &str = r"x|{}
x|run|{}
x|--vault|{}
x|--vault={}
x|--foo={}
x|-z|{}
x|-Z{}
x|foo={}
x|--model|{}
x|--name={}
x|/tmp/{}/x
x|/tmp/{}
x|./{}
x|~/{}.json
x|{}.txt
x|data/{}/train
x|proj/ds:{}
x|proj/{}:v3
x|https://example.com/hooks/{}
x|https://{}.example.com/x
x|s3://bucket/{}/x
x|a,b,{}
x|--lr=0.1,{}
sh|-c|cat {} >out
sh|-c|run --x={} y
sh|-c|cat /tmp/{}/y";

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn of(&mut self, letters: &str, len: usize) -> String {
        let letters: Vec<char> = letters.chars().collect();
        (0..len).map(|_| letters[self.below(letters.len())]).collect()
    }
}

const SMALL: &str = "abcdefghijklmnopqrstuvwxyz";
const DIGITS: &str = "0123456789";
const MIXED: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// Secrets that no form gives away.
fn plain_secret(random: &mut Random) -> String {
    match random.below(4) {
        0 => ["rosebud", "hunter", "Swordfish", "letmein", "monkey"][random.below(5)].to_owned(),
        1 => random.of(DIGITS, 6),
        2 => format!("Hunter{}{}", random.below(1000), random.of(SMALL, 1)),
        _ => random.of(SMALL, 9),
    }
}

/// Secrets as programs make them.
fn made_secret(random: &mut Random) -> String {
    match random.below(5) {
        0 => random.of("0123456789abcdef", 40),
        1 => random.of("0123456789abcdef", 32),
        2 => random.of(MIXED, 24),
        3 => format!("{}-{}", random.of("0123456789abcdef", 8), random.of("0123456789abcdef", 12)),
        _ => format!("{}_{}", random.of(MIXED, 22), random.of(MIXED, 20)),
    }
}

fn check(shapes: &str, seed: u64, secret: fn(&mut Random) -> String) {
    const ROUNDS: usize = 40;
    let mut random = Random(seed);
    for shape in shapes.lines() {
        for _ in 0..ROUNDS {
            let secret = secret(&mut random);
            let line = shape.replace("\\|", "\u{1}");
            let words: Vec<String> =
                line.split('|').map(|word| word.replace('\u{1}', "|").replace("{}", &secret)).collect();
            let shown = command(&words);
            // Not a short part of it either.
            let part: String = secret.chars().take(8).collect();
            let is_there = shown.iter().any(|word| word.contains(&part));
            assert!(!is_there, "seed {seed}: {words:?} is shown as {shown:?}");
            assert!(shown[0] == words[0] || words[0].contains('='), "the program is shown");
        }
    }
}

#[test]
fn a_random_secret_in_any_of_a_hundred_command_lines_never_shows() {
    assert!(NAMED.lines().count() >= 100);
    for seed in [1, 2, 3] {
        check(NAMED, seed, plain_secret);
        check(NAMED, seed, made_secret);
        check(UNNAMED, seed, made_secret);
    }
}
