//! What was asked for is kept: through crashes, restarts and clean ends of the server.

mod attempts;
mod comes_back;
mod learned;
mod meanwhile;
mod order;
mod readiness;
mod suspended;
