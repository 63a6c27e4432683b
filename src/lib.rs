//! `artfs`: a FUSE-mounted versioned filesystem for machine-learning artifacts.
