//! Permission questions: asked by a worker, answered by a person.

use super::*;

/// Asks, and says what `permissions:list` shows.
async fn ask(world: &World, turn: &Value, request: &str) -> Result<Value, CallError> {
    let patterns = Value::Array(vec!["rm -r build".into()]);
    let fields = [
        ("turn", turn.clone()),
        ("request", request.into()),
        ("permission", "bash".into()),
        ("patterns", patterns),
        ("timeoutMs", 60_000.0.into()),
    ];
    world.worker("permissions:ask", fields).await
}

#[test]
fn a_permission_question_is_shown_answered_and_gone_with_its_turn() {
    check(async |world| {
        let turn = world.turn().await;
        for _ in 0..2 {
            ask(&world, &turn, "per_1").await.unwrap();
        }
        ask(&world, &turn, "per_2").await.unwrap();
        let listed = async |who: &Identity| {
            let list =
                world.convex.call(Kind::Query, "permissions:list", object([]), Some(who.clone()), "test");
            let Value::Array(questions) = list.await.unwrap() else { panic!() };
            questions
        };
        let questions = listed(&world.ada).await;
        assert_eq!(questions.len(), 2, "asking twice changes nothing");
        let eve = Identity::new("https://issuer", "eve");
        assert_eq!(listed(&eve).await, [], "a stranger sees nothing");
        let answer = || object([("question", field(&questions[0], "_id")), ("allow", true.into())]);
        assert!(world.call("permissions:answer", answer(), Some(eve)).await.is_err(), "a stranger decides");
        world.person("permissions:answer", answer()).await;
        assert_eq!(listed(&world.ada).await.len(), 1);
        let args = object([("who", who(&world.machine, Some(1.0))), ("turn", turn.clone())]);
        let answers =
            world.convex.call(Kind::Query, "permissions:subscribeToAnswers", args, None, "test").await;
        let expected = object([("request", "per_1".into()), ("allow", true.into())]);
        assert_eq!(answers.unwrap(), Value::Array(vec![expected]));
        world
            .worker("permissions:withdraw", [("turn", turn.clone()), ("request", "per_1".into())])
            .await
            .unwrap();
        world.worker("chat:completeMessage", chunk(&turn, 0.0, "done")).await.unwrap();
        assert!(world.convex.table("permissionQuestions").is_empty());
    });
}

#[test]
fn a_turn_has_sixteen_open_permission_questions_at_most() {
    check(async |world| {
        let turn = world.turn().await;
        for n in 0..16 {
            ask(&world, &turn, &format!("per_{n}")).await.unwrap();
        }
        assert_eq!(code(ask(&world, &turn, "per_16").await), "too_many_questions".into());
    });
}
