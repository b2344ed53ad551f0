//! The population from before a run.

use std::collections::BTreeMap;

use convex::Value;

use super::{deployment::Convex, id::Id, store::Write, transaction::Transaction};

/// Inserts documents as if they had been there before the run: no function, no observation.
#[derive(Debug)]
pub struct Seeder<'a> {
    convex: &'a Convex,
    writes: Vec<Write>,
}

impl<'a> Seeder<'a> {
    fn new(convex: &'a Convex) -> Self {
        Self { convex, writes: Vec::new() }
    }

    /// Commits everything at one timestamp, so that much population does not move the commit clock.
    fn finish(self) {
        let deployment = &self.convex.0;
        let touched = deployment.store.borrow_mut().commit(&self.writes, (deployment.options.clock)());
        deployment.subscriptions.borrow_mut().invalidate(&touched);
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
        let mut transaction = Transaction::new(0, 0);
        transaction.insert_at(&deployment.store.borrow(), id, creation_time, fields)?;
        self.writes.extend(transaction.writes());
        Ok(id.to_string())
    }
}

impl Convex {
    /// Inserts documents without a function: the population from before a run. Each is validated against the schema.
    pub fn seed<R>(&self, f: impl FnOnce(&mut Seeder<'_>) -> R) -> R {
        let mut seeder = Seeder::new(self);
        let result = f(&mut seeder);
        seeder.finish();
        result
    }
}
