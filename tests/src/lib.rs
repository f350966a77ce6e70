//! What the end-to-end suites share.

pub mod background;
pub mod baseline;
pub mod driver;
pub mod feed;
pub mod fixtures;
pub mod fuzz;
pub mod hangar;
pub mod house;
pub mod http;
pub mod hub;
pub mod images;
pub mod info;
pub mod lab;
pub mod languages;
pub mod lives;
pub mod metrics;
pub mod processes;
pub mod raw;
pub mod refusals;
pub mod scripted;
pub mod served;
pub mod stubs;
pub mod throttle;
pub mod time_enough;
pub mod timed;
pub mod tools;
