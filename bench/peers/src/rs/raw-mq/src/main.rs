#[path = "../../pb.rs"]
mod pb;
// raw lapin floor. raw-mq pub N WINDOW PUBS QUEUE(classic|quorum) | consume N PREFETCH MULTI QUEUE | latency RATE SECS QUEUE
use futures::StreamExt;
use lapin::{options::*, types::*, BasicProperties, Connection, ConnectionProperties};
use pb::*;
use std::collections::VecDeque;
async fn chan() -> (Connection, lapin::Channel) {
    let c = Connection::connect(&env("AMQP_URL", ""), ConnectionProperties::default()).await.unwrap();
    let ch = c.create_channel().await.unwrap();
    (c, ch)
}
async fn declare(ch: &lapin::Channel, k: &str) -> String {
    let q = format!("raw-{k}");
    let mut a = FieldTable::default();
    if k == "quorum" {
        a.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    ch.queue_declare(q.clone().into(), QueueDeclareOptions { durable: true, ..Default::default() }, a)
        .await
        .unwrap();
    q
}
#[tokio::main]
async fn main() {
    match arg(1).as_str() {
        "purge" => {
            let (_c, ch) = chan().await;
            let q = declare(&ch, &arg(2)).await;
            ch.queue_purge(q.into(), Default::default()).await.unwrap();
        }
        "pub" => {
            // persistent messages, publisher confirms, up to WINDOW unconfirmed per publisher
            let (n, win, pubs, k) = (argn(2, 100000), argn(3, 1), argn(4, 1), arg(5));
            let mut hs = vec![];
            let c0 = cpu();
            let t0 = now_ms();
            for _ in 0..pubs {
                let k = k.clone();
                let m = n / pubs;
                hs.push(tokio::spawn(async move {
                    let (_c, ch) = chan().await;
                    let q = declare(&ch, &k).await;
                    ch.confirm_select(Default::default()).await.unwrap();
                    let mut pend = VecDeque::new();
                    for i in 0..m {
                        let p = serde_json::to_vec(&job(i as i64)).unwrap();
                        pend.push_back(
                            ch.basic_publish(
                                "".into(),
                                q.as_str().into(),
                                BasicPublishOptions::default(),
                                &p,
                                BasicProperties::default().with_delivery_mode(2),
                            )
                            .await
                            .unwrap(),
                        );
                        if pend.len() >= win {
                            pend.pop_front().unwrap().await.unwrap();
                        }
                    }
                    for x in pend {
                        x.await.unwrap();
                    }
                }));
            }
            for h in hs {
                h.await.unwrap();
            }
            println!("OUT {{\"n\":{},\"secs\":{:.4},\"cpu\":{:.3}}}", n, (now_ms() - t0) / 1e3, cpu() - c0);
        }
        "consume" => {
            // MULTI: ack every k deliveries with multiple=true (1 = ack each)
            let (n, pf, multi, k) = (argn(2, 100000), argn(3, 500), argn(4, 1), arg(5));
            let (_c, ch) = chan().await;
            let q = declare(&ch, &k).await;
            ch.basic_qos(pf as u16, Default::default()).await.unwrap();
            let c0 = cpu();
            let t0 = now_ms();
            let mut cons = ch
                .basic_consume(q.into(), "raw".into(), Default::default(), Default::default())
                .await
                .unwrap();
            let mut got = 0;
            let mut x = 0i64;
            while let Some(d) = cons.next().await {
                let d = d.unwrap();
                let j: Job = serde_json::from_slice(&d.data).unwrap();
                x ^= j.id;
                got += 1;
                if multi == 1 || got % multi == 0 || got == n {
                    d.ack(BasicAckOptions { multiple: multi > 1 }).await.unwrap();
                }
                if got == n {
                    break;
                }
            }
            std::hint::black_box(x);
            out_drain(n as u64, t0, now_ms(), c0);
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        "latency" => {
            let k = arg(4);
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            let (_c, ch) = chan().await;
            let q = declare(&ch, &k).await;
            ch.queue_purge(q.as_str().into(), Default::default()).await.unwrap();
            ch.basic_qos(100, Default::default()).await.unwrap();
            let mut cons = ch
                .basic_consume(q.as_str().into(), "raw".into(), Default::default(), Default::default())
                .await
                .unwrap();
            let c2 = ctr.clone();
            tokio::spawn(async move {
                while let Some(d) = cons.next().await {
                    let d = d.unwrap();
                    let j: Job = serde_json::from_slice(&d.data).unwrap();
                    c2.hit(j.id);
                    d.ack(Default::default()).await.unwrap();
                }
            });
            let (_c2, pc) = chan().await;
            pc.confirm_select(Default::default()).await.unwrap();
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let pc = pc.clone();
                let q = q.clone();
                async move {
                    let p = serde_json::to_vec(&job(i)).unwrap();
                    pc.basic_publish(
                        "".into(),
                        q.as_str().into(),
                        Default::default(),
                        &p,
                        BasicProperties::default().with_delivery_mode(2),
                    )
                    .await
                    .unwrap()
                    .await
                    .unwrap();
                }
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
