//! The program; what is there so far is used as a library.

fn main() {}
