//! Touches and reads in time and address: as a raster of the whole log, and point by point for one
//! cycle.

use serde::Serialize;

/// Columns and rows of the raster at most; after a merge half of them are in use.
const COLUMNS: usize = 512;
const ROWS: usize = 128;

/// Points of a cycle that are kept at most.
const POINTS_MAX: usize = 60_000;

/// What a point stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A read, at its submission.
    Read,
    /// A touch of a staged block.
    Staged,
    /// A touch that waited for the drive.
    Waited,
}

/// One touch or read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Dot {
    /// When, in seconds of the log.
    pub at_s: f64,
    /// Where, in bytes, with the files of the log one after the other.
    pub address: u64,
    /// What.
    pub mark: Mark,
}

/// A picture of the log that grows with it.
pub struct Raster {
    column_ns: u64,
    row_bytes: u64,
    /// A bit for each [`Mark`], by row and column.
    cells: Vec<u8>,
}

impl Default for Raster {
    fn default() -> Raster {
        Raster { column_ns: 100_000, row_bytes: 1 << 20, cells: vec![0; COLUMNS * ROWS] }
    }
}

impl Raster {
    /// Puts a mark.
    pub fn mark(&mut self, at_ns: u64, address: u64, mark: Mark) {
        while at_ns / self.column_ns >= COLUMNS as u64 {
            self.column_ns *= 2;
            self.halve(|column, row| (column / 2, row));
        }
        while address / self.row_bytes >= ROWS as u64 {
            self.row_bytes *= 2;
            self.halve(|column, row| (column, row / 2));
        }
        let (column, row) = ((at_ns / self.column_ns) as usize, (address / self.row_bytes) as usize);
        self.cells[row * COLUMNS + column] |= 1 << mark as u8;
    }

    fn halve(&mut self, to: impl Fn(usize, usize) -> (usize, usize)) {
        let mut cells = vec![0; COLUMNS * ROWS];
        for (index, cell) in self.cells.iter().enumerate() {
            let (column, row) = to(index % COLUMNS, index / COLUMNS);
            cells[row * COLUMNS + column] |= cell;
        }
        self.cells = cells;
    }

    /// The horizontal runs of cells with `mark`.
    fn runs(&self, mark: Mark) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (index, _) in self.cells.iter().enumerate().filter(|(_, cell)| **cell & (1 << mark as u8) != 0) {
            let (row, column) = ((index / COLUMNS) as u32, (index % COLUMNS) as u32);
            match runs.last_mut().filter(|run| run.row == row && run.column + run.columns == column) {
                Some(run) => run.columns += 1,
                None => runs.push(Run { row, column, columns: 1 }),
            }
        }
        runs
    }
}

/// Neighbouring cells of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Row, from address 0 on.
    pub row: u32,
    /// First column, from the start of the log on.
    pub column: u32,
    /// Columns.
    pub columns: u32,
}

/// Collects both pictures.
#[derive(Default)]
pub struct Addresses {
    raster: Raster,
    now: Vec<Dot>,
    cycle: Vec<Dot>,
    left_out: bool,
}

impl Addresses {
    /// Puts a mark.
    pub fn mark(&mut self, at_ns: u64, address: u64, mark: Mark) {
        self.raster.mark(at_ns, address, mark);
        if self.now.len() < POINTS_MAX {
            self.now.push(Dot { at_s: at_ns as f64 / 1e9, address, mark });
        } else {
            self.left_out = true;
        }
    }

    /// A cycle ended.
    pub fn ended(&mut self, complete: bool) {
        let now = std::mem::take(&mut self.now);
        let cut = std::mem::take(&mut self.left_out);
        if !cut && (complete || self.cycle.is_empty()) {
            self.cycle = now;
        }
    }

    /// The pictures.
    pub fn finish(self) -> AddressPlot {
        AddressPlot {
            column_s: self.raster.column_ns as f64 / 1e9,
            row_bytes: self.raster.row_bytes,
            read: self.raster.runs(Mark::Read),
            staged: self.raster.runs(Mark::Staged),
            waited: self.raster.runs(Mark::Waited),
            last_cycle: self.cycle,
        }
    }
}

/// Addresses over time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AddressPlot {
    /// Width of a column of the raster, in seconds.
    pub column_s: f64,
    /// Height of a row of the raster, in bytes.
    pub row_bytes: u64,
    /// Cells with a read.
    pub read: Vec<Run>,
    /// Cells with a touch of a staged block.
    pub staged: Vec<Run>,
    /// Cells with a touch that waited for the drive.
    pub waited: Vec<Run>,
    /// Every touch and read of the last complete cycle that is short enough to keep.
    pub last_cycle: Vec<Dot>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_raster_grows_and_keeps_every_mark() {
        let mut raster = Raster::default();
        for step in 0..100u64 {
            raster.mark(step * 100_000, step << 20, Mark::Read);
        }
        assert_eq!(raster.runs(Mark::Read).len(), 100);
        raster.mark(1 << 40, 1 << 44, Mark::Waited);
        assert!(raster.runs(Mark::Waited)[0].row < ROWS as u32);
        // All reads have become the first cell.
        assert_eq!(raster.runs(Mark::Read), [Run { row: 0, column: 0, columns: 1 }]);
        assert!(raster.runs(Mark::Staged).is_empty());
    }
}
