//! Environment variables as they may be recorded.

use std::collections::BTreeMap;

use super::form::shown;
use super::mask::WordContext;

/// The variables that are recorded, if the form of their values is harmless.
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

/// Returns the variables of an environment that may be recorded.
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

/// Variables that hold the hash of a commit.
const COMMITS: [&str; 2] = ["GITHUB_SHA", "CI_COMMIT_SHA"];

fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_is_recorded_by_a_list_of_names() {
        let set = [("RANK", "3"), ("AWS_SECRET_ACCESS_KEY", "x"), ("HOME", "/root"), ("LANG", "C.UTF-8")];
        let set: Vec<_> = set.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kept: Vec<_> = environment(&set).into_iter().collect();
        assert_eq!(kept, [("LANG".to_owned(), "C.UTF-8".to_owned()), ("RANK".into(), "3".into())]);
    }
}
