//! Many keys at once.

use std::sync::Mutex;

use super::flaky::Line;
use super::*;

type Batch = std::pin::Pin<Box<dyn Future<Output = Result<Vec<(u64, Bytes)>, String>> + Send>>;
type Asked = Arc<Mutex<Vec<Vec<u64>>>>;

/// Brings each key's square root, if it has one, and notes what it was asked for.
fn roots(asked: &Asked) -> impl FnMut(Vec<u64>) -> Batch + Clone + use<> {
    let asked = asked.clone();
    move |keys| {
        asked.lock().unwrap().push(keys.clone());
        Box::pin(async move {
            tokio::time::sleep(secs(1)).await;
            if keys.contains(&13) {
                return Err(String::from("unlucky"));
            }
            let root = |key: u64| (0..=key).find(|root| root * root == key);
            Ok(keys.into_iter().filter_map(|key| Some((key, vec![u8::try_from(root(key)?).unwrap()]))).collect())
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_instance_has_or_loads_is_not_asked_for() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let asked = Asked::default();
    one.insert(4, vec![2]).await;
    let loading = tokio::spawn({
        let (cache, load) = (one.clone(), roots(&asked));
        async move { cache.get_or_load_many(&[9, 16], load).await }
    });
    tokio::time::sleep(millis(100)).await;
    let found = other.get_or_load_many(&[4, 9, 25, 26], roots(&asked)).await;
    assert_eq!(found[0].as_ref().unwrap(), &[2]);
    assert_eq!(found[1].as_ref().unwrap(), &[3]);
    assert_eq!(found[2].as_ref().unwrap(), &[5]);
    assert!(found[3].as_ref().unwrap_err().is_not_found());
    assert_eq!(loading.await.unwrap()[1].as_ref().unwrap(), &[4]);
    assert_eq!(*asked.lock().unwrap(), [vec![9, 16], vec![25, 26]]);
    assert_eq!(one.get_many(&[25, 26, 4]).await, [Some(vec![5]), None, Some(vec![2])]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_fails_for_its_own_keys_and_gives_the_leases_back() {
    let store = MemoryCacheStore::new();
    let ((one, _), (other, _)) = (instance(&store), instance(&store));
    let asked = Asked::default();
    one.insert(4, vec![2]).await;
    let found = other.get_or_load_many(&[4, 9, 13], roots(&asked)).await;
    assert_eq!(found[0].as_ref().unwrap(), &[2]);
    for failed in &found[1..] {
        assert_eq!(failed.as_ref().unwrap_err().error().unwrap(), "unlucky");
    }
    let began = tokio::time::Instant::now();
    assert_eq!(one.get_or_load_many(&[9], roots(&asked)).await[0].as_ref().unwrap(), &[3]);
    assert_eq!(began.elapsed(), secs(1));
}

#[tokio::test(start_paused = true)]
async fn without_a_store_one_batch_brings_all() {
    let store = MemoryCacheStore::new();
    let (cache, flaky) = instance(&store);
    flaky.set(Line::Cut);
    let asked = Asked::default();
    let keys: Vec<u64> = (1..=10).map(|root| root * root).collect();
    let found = cache.get_or_load_many(&keys, roots(&asked)).await;
    assert!(found.iter().all(Result::is_ok));
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn two_batches_in_crossed_order_do_not_wait_for_each_other() {
    let store = MemoryCacheStore::new();
    let instances: Vec<_> = (0..4).map(|_| instance(&store)).collect();
    let asked = Asked::default();
    let tasks: Vec<_> = instances
        .iter()
        .enumerate()
        .map(|(number, (cache, flaky))| {
            flaky.delay(millis(number as u64));
            let (cache, load) = (cache.clone(), roots(&asked));
            let mut keys: Vec<u64> = (1..=10).map(|root| root * root).collect();
            keys.rotate_left(number * 3);
            tokio::spawn(async move { cache.get_or_load_many(&keys, load).await })
        })
        .collect();
    let began = tokio::time::Instant::now();
    for task in tasks {
        assert!(task.await.unwrap().iter().all(Result::is_ok));
    }
    assert!(began.elapsed() < secs(3), "{:?}", began.elapsed());
    let mut all = asked.lock().unwrap().concat();
    all.sort_unstable();
    assert_eq!(all, (1..=10).map(|root| root * root).collect::<Vec<u64>>(), "each was loaded once");
}
