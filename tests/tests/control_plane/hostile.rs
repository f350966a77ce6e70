//! Clients that ask for too much, or take too little: they harm nobody else.

mod memory;
mod multiplied;
mod pipelined;
mod unread;
