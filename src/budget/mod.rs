//! How much memory the frame pool may have.
use crate::config::BudgetSetting;
/// Stub.
pub struct Memory;
impl Memory {
    /// Stub.
    pub fn probe() -> Memory {
        Memory
    }
}
/// Stub.
pub fn resolve(setting: BudgetSetting, model_bytes: u64, _memory: &Memory) -> u64 {
    match setting {
        BudgetSetting::Auto => model_bytes,
        BudgetSetting::Bytes(b) => b.0,
        BudgetSetting::Percent(p) => (model_bytes as f64 * p / 100.0) as u64,
    }
}
/// Stub.
pub fn fits(setting: BudgetSetting, model_bytes: u64, memory: &Memory) -> bool {
    resolve(setting, model_bytes, memory) >= model_bytes
}
