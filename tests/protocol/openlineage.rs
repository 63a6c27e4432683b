//! Run events match the specification of OpenLineage.

use artfs::format::clock::Timestamp;
use artfs::format::id::Digest;
use artfs::format::name::VersionNumber;
use artfs::format::run::{Git, Run, VersionRead};
use artfs::repo::lineage::openlineage::{Stage, VersionMade, event};
use serde_json::{Value, json};

use crate::support::openlineage::check;

/// Runs of which much, little and nothing is known.
fn runs() -> Vec<Run> {
    let full = Run {
        id: Some("slurm-77".parse().unwrap()),
        name: Some("first try".into()),
        command: vec!["/usr/bin/python3".into(), "train.py".into()],
        job_type: Some("train".into()),
        group: Some("sweep".into()),
        host: "gpu7".into(),
        ended: Some(Timestamp::from_unix_millis(1_767_323_096_789)),
        exit_status: Some(3),
        ..Run::default()
    };
    let remotes =
        ["https://h/t/x.git", "ssh://h/x", "git@h:t/x.git", "https://h/a folder/x", "://", "x://y z"];
    let with_code = remotes.map(|remote| {
        let (commit, branch) = (Some("c0ffee".into()), Some("main".into()));
        Run { git: Some(Git { commit, branch, dirty: None, remote: Some(remote.into()) }), ..full.clone() }
    });
    let mut all = vec![Run::default(), Run { id: full.id.clone(), ..Run::default() }, full];
    all.extend(with_code);
    all
}

fn events() -> Vec<Value> {
    let read = |version, bytes| VersionRead {
        project: "p".parse().unwrap(),
        name: "ds".parse().unwrap(),
        version: VersionNumber(version),
        digest: Digest::of(b"d"),
        files: 2,
        bytes,
    };
    let made = |name: &str| VersionMade { artifact: name.parse().unwrap(), version: VersionNumber(0) };
    let (reads, mades) = ([read(3, 9), read(4, u64::MAX)], [made("p/model"), made("p/report")]);
    let mut events = vec![];
    for run in runs() {
        for stage in [Stage::Start, Stage::Complete, Stage::Fail] {
            for namespace in ["s3://bucket/team", "file:///srv/a%20store", "/srv/store"] {
                for count in 0..=2 {
                    let at = Timestamp::from_unix_millis(1_767_323_096_789 + count as i64);
                    events.push(event(stage, at, namespace, &run, &reads[..count], &mades[..count]));
                }
            }
        }
    }
    events
}

#[test]
fn every_event_holds_to_the_rules_of_the_specification() {
    for event in events() {
        if let Err(problem) = check(&event) {
            panic!("{problem}");
        }
    }
}

/// The rules are known to refuse.
#[test]
fn events_that_lack_something_are_refused_by_the_rules() {
    let full = events().into_iter().rev().find(|e| e["run"]["facets"]["errorMessage"].is_object()).unwrap();
    check(&full).unwrap();
    let damages: &[(&str, Value)] = &[
        ("/run/runId", json!("slurm-77")),
        ("/eventTime", json!("yesterday")),
        ("/eventType", json!("END")),
        ("/producer", json!("artfs")),
        ("/job/name", json!(7)),
        ("/job/facets/jobType/processingType", Value::Null),
        ("/run/facets/errorMessage/_schemaURL", json!("no url")),
        ("/inputs/1/inputFacets/inputStatistics/size", json!("9")),
        ("/outputs/0/facets/version", json!({ "datasetVersion": "v0" })),
        ("/inputs", json!({})),
    ];
    for (place, value) in damages {
        let mut event = full.clone();
        *event.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not there:\n{full:#}")) =
            value.clone();
        assert!(check(&event).is_err(), "{place}: {value}");
    }
    for member in ["eventTime", "producer", "schemaURL", "run", "job"] {
        let mut event = full.clone();
        event.as_object_mut().unwrap().remove(member).unwrap();
        assert!(check(&event).is_err(), "without {member}");
    }
    let mut event = full;
    event["run"]["facets"]["other"] = json!({});
    assert!(check(&event).is_err(), "a facet without rules");
}
