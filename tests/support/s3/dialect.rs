//! Another vendor's words for what S3 does, so that one server can stand behind several protocols.

/// How a request is refused that cannot be put into S3's words.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    /// The vendor's code for it.
    pub code: &'static str,
    pub message: String,
}

/// Translates the heads of requests and answers; bodies are the same in S3 and the dialect.
///
/// A condition must become the S3 condition of the same meaning: it is checked with the write, in one step.
pub trait Dialect: Send + Sync {
    /// Puts a request into S3's words, or says how it is refused.
    fn to_s3(&self, request: &mut http::request::Parts) -> Result<(), Refusal>;

    /// Puts an answer into the vendor's words. The version S3 would name is the object's generation.
    fn to_vendor(&self, answer: &mut http::response::Parts);
}
