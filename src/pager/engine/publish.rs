//! The live page, written between two waits.

use super::Engine;
use crate::status::{Counters, Texts, process};

impl Engine {
    /// Names the first model, and makes the page if there is none.
    pub(super) fn introduce(&mut self) {
        let Some(view) = self.views.iter().flatten().next() else { return };
        let stats = &self.meter.stats;
        self.publisher.introduce(&Texts {
            program: process::program_name(),
            model: view.file.path().to_string_lossy().into_owned(),
            strategy: stats.strategy.clone(),
            fill_rung: stats.fill_rung.clone(),
            io_rung: stats.io_rung.clone(),
            fault_mode: stats.fault_mode.clone(),
        });
        self.publish_now();
    }

    /// Writes the page if it is time.
    pub(super) fn publish(&mut self) {
        if self.publisher.is_due(self.meter.now_ns()) {
            self.publish_now();
        }
    }

    /// Writes the page.
    pub(super) fn publish_now(&mut self) {
        let mut counters = Counters { held_bytes: self.table.held_bytes(), ..self.meter.counters() };
        counters.pager_cpu_ns += self.fill.cpu_ns();
        self.publisher.publish(self.meter.now_ns(), counters);
    }
}
