//! The harness that starts real servers and speaks the words of the domain.
