//! Programs of other people, and in other languages, which are downloaded or have to be there.

mod conformance;
mod grpcurl;
mod languages;
mod prompts;
mod reflection;
mod tritonclient;
