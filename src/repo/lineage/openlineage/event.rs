//! A run event: a run, the versions that it read, and those that it made.

use serde_json::{Map, Value, json};

use crate::format::clock::Timestamp;
use crate::format::name::{ArtifactKey, RunId, VersionNumber};
use crate::format::run::{Run, VersionRead};

const PRODUCER: &str = concat!("https://github.com/artfs/artfs/v", env!("CARGO_PKG_VERSION"));
const SCHEMA: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
/// Where the specification describes the facets used here.
const FACETS: &str = "https://openlineage.io/spec/facets";

/// The state of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It starts.
    Start,
    /// It ended with success.
    Complete,
    /// It ended without success.
    Fail,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Stage::Start => "START",
            Stage::Complete => "COMPLETE",
            Stage::Fail => "FAIL",
        }
    }
}

/// A version that a run made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionMade {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version.
    pub version: VersionNumber,
}

/// Returns one event. `namespace` is that of the datasets: the URL of the store.
pub fn event(
    stage: Stage,
    at: Timestamp,
    namespace: &str,
    run: &Run,
    inputs: &[VersionRead],
    outputs: &[VersionMade],
) -> Value {
    let inputs: Vec<Value> = inputs
        .iter()
        .map(|read| {
            let mut dataset = dataset(namespace, &read.artifact(), read.version);
            let statistics = json!({ "rowCount": Value::Null, "size": read.bytes, "fileCount": read.files });
            dataset["inputFacets"] =
                json!({ "inputStatistics": facet("1-0-0/InputStatisticsInputDatasetFacet", statistics) });
            dataset
        })
        .collect();
    let outputs: Vec<Value> =
        outputs.iter().map(|made| dataset(namespace, &made.artifact, made.version)).collect();
    json!({
        "eventType": stage.word(),
        "eventTime": at,
        "run": { "runId": uuid(run.id.as_ref()), "facets": run_facets(run) },
        "job": { "namespace": job_namespace(run), "name": job_name(run), "facets": job_facets(run) },
        "inputs": inputs,
        "outputs": outputs,
        "producer": PRODUCER,
        "schemaURL": SCHEMA,
    })
}

fn dataset(namespace: &str, artifact: &ArtifactKey, version: VersionNumber) -> Value {
    let version = facet("1-0-1/DatasetVersionDatasetFacet", json!({ "datasetVersion": version }));
    json!({ "namespace": namespace, "name": artifact, "facets": { "version": version } })
}

/// Returns a facet of the specification: the members that all facets have, and its own that are not null.
fn facet(schema: &str, members: Value) -> Value {
    let name = schema.rsplit('/').next().unwrap_or(schema);
    let mut all = Map::new();
    all.insert("_producer".into(), PRODUCER.into());
    all.insert("_schemaURL".into(), format!("{FACETS}/{schema}.json#/$defs/{name}").into());
    if let Value::Object(members) = members {
        all.extend(members.into_iter().filter(|(_, value)| !value.is_null()));
    }
    Value::Object(all)
}

fn run_facets(run: &Run) -> Value {
    let mut facets = Map::new();
    if let (Some(status), Some(_)) = (run.exit_status.filter(|status| *status != 0), run.ended) {
        let members = json!({ "message": format!("exit status {status}"), "programmingLanguage": "unknown" });
        facets.insert("errorMessage".into(), facet("1-0-1/ErrorMessageRunFacet", members));
    }
    Value::Object(facets)
}

fn job_facets(run: &Run) -> Value {
    let mut facets = Map::new();
    let kind = json!({ "processingType": "BATCH", "integration": "ARTFS", "jobType": run.job_type });
    facets.insert("jobType".into(), facet("2-0-3/JobTypeJobFacet", kind));
    if let Some(git) = &run.git
        && let Some(remote) = &git.remote
        && let Ok(url) = url::Url::parse(remote)
    {
        let members = json!({
            "type": "git", "url": url.as_str(), "repoUrl": remote, "version": git.commit, "branch": git.branch
        });
        facets.insert("sourceCodeLocation".into(), facet("1-0-1/SourceCodeLocationJobFacet", members));
    }
    Value::Object(facets)
}

fn job_namespace(run: &Run) -> String {
    run.group.clone().unwrap_or_else(|| if run.host.is_empty() { "artfs".into() } else { run.host.clone() })
}

fn job_name(run: &Run) -> String {
    let program = || run.command.first().and_then(|word| word.rsplit('/').next()).map(str::to_owned);
    let name = run.name.clone().or_else(|| run.job_type.clone()).or_else(program);
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "run".to_owned())
}

/// Returns the UUID of a run, which OpenLineage requires; always the same for the same run.
fn uuid(id: Option<&RunId>) -> String {
    let text = id.map_or("", RunId::as_str);
    let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let hex =
        if is_hex { text.to_lowercase() } else { blake3::hash(text.as_bytes()).to_hex()[..32].to_owned() };
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::id::Digest;
    use crate::format::run::Git;

    fn full() -> Value {
        let run = Run {
            id: Some("slurm-77".parse().unwrap()),
            command: vec!["/usr/bin/python3".into()],
            job_type: Some("train".into()),
            host: "gpu7".into(),
            git: Some(Git { commit: Some("c".into()), remote: Some("https://h/x".into()), ..Git::default() }),
            ended: Some(Timestamp::from_unix_millis(1)),
            exit_status: Some(3),
            ..Run::default()
        };
        let read = VersionRead {
            project: "p".parse().unwrap(),
            name: "ds".parse().unwrap(),
            version: VersionNumber(3),
            digest: Digest::of(b"d"),
            files: 2,
            bytes: 9,
        };
        let made = VersionMade { artifact: "p/model".parse().unwrap(), version: VersionNumber(0) };
        event(Stage::Fail, Timestamp::from_unix_millis(1_767_323_096_789), "s3://b/x", &run, &[read], &[made])
    }

    /// Checks the members that the published schema requires, and their forms.
    fn check(event: &Value) {
        let uri = |value: &Value| assert!(url::Url::parse(value.as_str().unwrap()).is_ok(), "{value}");
        let text = |value: &Value| assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{value}");
        let facets = |owner: &Value, name: &str| {
            for facet in owner[name].as_object().into_iter().flat_map(Map::values) {
                uri(&facet["_producer"]);
                uri(&facet["_schemaURL"]);
            }
        };
        uri(&event["producer"]);
        uri(&event["schemaURL"]);
        assert!(event["eventTime"].as_str().unwrap().parse::<Timestamp>().is_ok());
        assert!(["START", "COMPLETE", "FAIL"].contains(&event["eventType"].as_str().unwrap()));
        let parts: Vec<usize> = event["run"]["runId"].as_str().unwrap().split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        facets(&event["run"], "facets");
        facets(&event["job"], "facets");
        text(&event["job"]["namespace"]);
        text(&event["job"]["name"]);
        let datasets = ["inputs", "outputs"].into_iter().flat_map(|kind| event[kind].as_array().unwrap());
        for dataset in datasets {
            text(&dataset["namespace"]);
            text(&dataset["name"]);
            text(&dataset["facets"]["version"]["datasetVersion"]);
            facets(dataset, "facets");
            facets(dataset, "inputFacets");
        }
    }

    #[test]
    fn events_have_what_the_published_schema_requires() {
        let event = full();
        check(&event);
        assert_eq!(event["inputs"][0]["name"], "p/ds");
        assert_eq!(event["outputs"][0]["facets"]["version"]["datasetVersion"], "v0");
        assert_eq!(event["run"]["facets"]["errorMessage"]["message"], "exit status 3");
        assert_eq!(
            (event["job"]["name"].as_str(), event["job"]["namespace"].as_str()),
            (Some("train"), Some("gpu7"))
        );
        let nothing = Run::default();
        check(&super::event(Stage::Start, Timestamp::from_unix_millis(0), "file:///s", &nothing, &[], &[]));
    }

    #[test]
    fn one_run_has_one_uuid() {
        let id: RunId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(uuid(Some(&id)), "01234567-89ab-cdef-0123-456789abcdef");
        let job: RunId = "slurm-77".parse().unwrap();
        assert_eq!(uuid(Some(&job)), uuid(Some(&job)));
    }
}
