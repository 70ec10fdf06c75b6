//! The graph of an execution as JSON.

use serde::Serialize;

use crate::graph::Picture;

/// A graph with states.
#[derive(Debug, Serialize)]
pub struct GraphJson {
    workflow: String,
    nodes: Vec<NodeJson>,
    edges: Vec<EdgeJson>,
    critical: Vec<StepJson>,
}

#[derive(Debug, Serialize)]
struct NodeJson {
    task: String,
    state: &'static str,
    attempts: u32,
    took_us: Option<u64>,
    level: usize,
}

#[derive(Debug, Serialize)]
struct EdgeJson {
    from: String,
    to: String,
    kind: &'static str,
}

#[derive(Debug, Serialize)]
struct StepJson {
    task: String,
    waited_us: u64,
    took_us: u64,
}

impl From<&Picture> for GraphJson {
    fn from(picture: &Picture) -> Self {
        let name = |place: usize| picture.nodes[place].task.to_string();
        let nodes = picture.nodes.iter().map(|node| NodeJson {
            task: node.task.to_string(),
            state: node.state,
            attempts: node.attempts,
            took_us: node.took,
            level: node.level,
        });
        let edges = picture.edges.iter().map(|edge| EdgeJson {
            from: name(edge.from),
            to: name(edge.to),
            kind: edge.kind.name(),
        });
        let steps = picture.critical.iter().map(|step| StepJson {
            task: step.task.to_string(),
            waited_us: step.waited,
            took_us: step.took,
        });
        Self {
            workflow: picture.workflow.clone(),
            nodes: nodes.collect(),
            edges: edges.collect(),
            critical: steps.collect(),
        }
    }
}
