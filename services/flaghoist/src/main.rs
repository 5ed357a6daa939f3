//! One binary: the four services together or one by one, and the command line for people.
fn main() {}
