//! What the integration tests share: one module for each thing that they need.

mod accept;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod aging;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod bucket;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod chaos;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod environment;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod faults;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod gcs;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod held;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod linearizability;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod link;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod logs;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod network;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod openlineage;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod random;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod read_back;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod s3;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod ssh;
#[allow(dead_code, reason = "every test binary compiles all of it and uses its own part")]
pub mod virtual_time;
