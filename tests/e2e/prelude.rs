//! What nearly every test names.

pub(crate) use std::time::Duration;

pub(crate) use flaghoist_proto::errors::v1::Reason;
pub(crate) use flaghoist_proto::receiver::v1::receive_response::Response as Heard;
pub(crate) use flaghoist_proto::send::v1::event::Change;
pub(crate) use flaghoist_tests::{
    Exit, Person, World, eventually, only_embedded, refused, request_id, retry_after, skip,
};
pub(crate) use tonic::{Code, Status};
