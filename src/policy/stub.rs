//! Stub.
use super::*;
use std::collections::VecDeque;
#[derive(Default)]
pub struct Stub {
    fifo: VecDeque<BlockId>,
}
impl Policy for Stub {
    fn name(&self) -> &'static str {
        "stub"
    }
    fn mapped(&mut self, _: &BlockTable, _: Range<BlockId>, _: &[BlockId]) {}
    fn unmapped(&mut self, _: &BlockTable, ids: Range<BlockId>) {
        self.fifo.retain(|i| !ids.contains(i));
    }
    fn budget_changed(&mut self, _: &BlockTable) {}
    fn touched(&mut self, _: &BlockTable, _: BlockId, _: Touch, _: u64) {}
    fn filled(&mut self, _: &BlockTable, id: BlockId) -> Placement {
        self.fifo.push_back(id);
        Placement::Install
    }
    fn next_read(&mut self, _: &BlockTable, _: u32) -> Option<BlockId> {
        None
    }
    fn victim(&mut self, t: &BlockTable, _: Option<BlockId>, _: Need) -> Option<BlockId> {
        for _ in 0..self.fifo.len() {
            let id = self.fifo.pop_front()?;
            if t.state(id) == State::Absent {
                continue;
            }
            if t.is_evictable(id) {
                return Some(id);
            }
            self.fifo.push_back(id)
        }
        None
    }
}
