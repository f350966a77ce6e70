//! What was asked for is kept: through crashes, restarts and clean ends of the server.

mod attempts;
mod comes_back;
mod during_startup;
mod learned;
mod order;
mod readiness;
mod suspended;
