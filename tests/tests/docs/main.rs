//! What is written and what is generated: every page's commands, and committed files.

mod commands;
mod generated_code;
mod suites;
