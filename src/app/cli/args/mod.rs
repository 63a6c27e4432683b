//! Values and options that several commands share.

mod error;
mod prefix;
mod quota;
mod references;
mod settings;
mod signers;
mod target;
mod values;

pub use self::error::ValueError;
pub use self::prefix::prefix;
pub use self::quota::QuotaArgs;
pub use self::references::ReferenceArgs;
pub use self::settings::SettingsArgs;
pub use self::signers::{PolicyArgs, SignersArgs};
pub use self::target::{CommandTarget, Named};
pub use self::values::{
    Ttl, label, parse_label, parse_meta, parse_meta_text, parse_size, parse_span, parse_tag, parse_target,
};
