//! What a platform team installs, judged without a cluster: the charts are rendered over a matrix of values, and what comes out is
//! compared with the contracts. Policies and firewalls are not read but asked: each possible caller for each method.
//!
//! `helm` and `istioctl` are needed; `tests/mesh/install` gets them.

mod charts;
mod contracts;
mod egress;
mod firewall;
mod fixture;
mod flags;
mod judge;
mod matrix;
mod names;
mod paths;
mod pods;
mod policies;
mod routes;
mod stable;
