//! One file per report: what is asked becomes leaves over the store's scan, their partial answers are merged into one.

pub mod evaluate;
