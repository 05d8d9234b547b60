use stanchion_pipeline::Pipeline;

#[derive(Debug)]
struct Declined;

async fn charge() -> Result<(), Declined> {
    Err(Declined)
}

async fn pay(pipeline: Pipeline) {
    let _ = pipeline.run(|_| charge()).await;
}

fn main() {}
