//! The population from before a run.

use std::collections::BTreeMap;

use convex::Value;

use super::{Convex, id::Id, transaction::Transaction};

/// Inserts documents as if they had been there before the run: no function, no observation.
#[derive(Debug)]
pub struct Seeder<'a> {
    convex: &'a Convex,
}

impl<'a> Seeder<'a> {
    pub(super) fn new(convex: &'a Convex) -> Self {
        Self { convex }
    }

    /// Inserts a document with its creation time (milliseconds since the Unix epoch) and returns its id. Refused if it
    /// does not match the schema.
    pub fn insert(
        &mut self,
        table: &str,
        fields: BTreeMap<String, Value>,
        creation_time: f64,
    ) -> Result<String, String> {
        let deployment = &self.convex.0;
        let number =
            deployment.store.borrow().number(table).ok_or_else(|| format!("there is no table `{table}`"))?;
        let id = Id::draw(number, &mut *deployment.random.borrow_mut());
        let now = (deployment.options.clock)();
        let mut transaction = Transaction::new(0, now);
        transaction.insert_at(&deployment.store.borrow(), id, creation_time, fields)?;
        let touched = deployment.store.borrow_mut().commit(&transaction.writes(), now);
        deployment.subscriptions.borrow_mut().invalidate(&touched);
        Ok(id.to_string())
    }
}
