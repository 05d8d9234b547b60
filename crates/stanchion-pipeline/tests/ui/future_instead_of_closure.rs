use stanchion_pipeline::Pipeline;

async fn fetch() -> std::io::Result<()> {
    Ok(())
}

async fn call(pipeline: Pipeline) {
    let _ = pipeline.run(fetch()).await;
}

fn main() {}
