//! Calls without a connection: by whoever holds the deployment.

use convex::Value;

use super::{
    auth::Identity,
    call::Call,
    deployment::Convex,
    error::{CallError, MutationError},
    kind::Kind,
};

impl Convex {
    /// Calls a public function, as a client over HTTP would: mutations are not recorded by request.
    pub async fn call(
        &self,
        kind: Kind,
        path: &str,
        args: Value,
        identity: Option<Identity>,
        caller: &str,
    ) -> Result<Value, CallError> {
        let call = Call { path: path.into(), args, identity, caller: caller.into(), public: true };
        match kind {
            Kind::Query => {
                let run = self.run_query(&call, None, false);
                self.execution_latency().await;
                run.result.map_err(CallError::Failed)
            }
            Kind::Mutation => self.mutate(&call).await,
            Kind::Action => self.run_action(&call).await.result.map_err(CallError::Failed),
        }
    }

    /// Runs a mutation, internal or public, as a cron job would.
    pub async fn call_as_cron(&self, path: &str, args: Value) -> Result<Value, CallError> {
        let call = Call { path: path.into(), args, identity: None, caller: "cron".into(), public: false };
        self.mutate(&call).await
    }

    async fn mutate(&self, call: &Call) -> Result<Value, CallError> {
        match self.run_mutation(call, None, None).await {
            Ok(committed) => Ok(committed.value),
            Err(MutationError::Failed(failure, _)) => Err(CallError::Failed(failure)),
            Err(MutationError::Conflict) => Err(CallError::Conflict),
        }
    }
}
