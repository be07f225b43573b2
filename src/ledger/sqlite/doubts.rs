//! What settling doubt needs to know: the doubts, what else a listed file may be, and samples.

use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use super::read::{digest, optional_time, target, time, unreadable};
use super::write::target_key;
use crate::ledger::StoredSample;
use crate::model::{AttemptId, Doubt, FileId, SourcePath, Stat, Tag, Target};

pub(super) fn doubts(connection: &Connection) -> rusqlite::Result<Vec<Doubt>> {
    let mut select = connection.prepare(
        "SELECT f.attempt_id, g.origin, g.organization_id, g.dataset_id, f.path, t.remote_name,
                t.size, t.mtime_ns, t.inode, t.blake3, t.tagged, t.read_at,
                t.at, f.absent_since, t.reason, f.last_look, t.metadata_blake3, f.stream
         FROM file_states f
         JOIN targets g USING (target_id)
         JOIN transitions t USING (transition_id)
         WHERE f.state IN ('committing', 'in_doubt')",
    )?;
    let mut doubts: Vec<Doubt> = select.query_map([], doubt)?.collect::<Result<_, _>>()?;
    // Sorted here: an order in the query would have it read every file, not only these.
    doubts.sort_by(|a, b| (&a.target, &a.path).cmp(&(&b.target, &b.path)));
    Ok(doubts)
}

fn doubt(row: &Row<'_>) -> rusqlite::Result<Doubt> {
    Ok(Doubt {
        attempt: AttemptId::new(row.get::<_, String>(0)?),
        stream: row.get(17)?,
        target: target(row, 1)?,
        path: SourcePath::new(row.get::<_, String>(4)?),
        remote_name: row.get(5)?,
        stat: Stat {
            size: row.get::<_, i64>(6)?.cast_unsigned(),
            mtime_ns: row.get(7)?,
            inode: row.get::<_, i64>(8)?.cast_unsigned(),
        },
        digest: digest(row, 9)?,
        tag: if row.get(10)? {
            Tag::Planted
        } else {
            Tag::None
        },
        began: time(row, 11)?,
        since: time(row, 12)?,
        absent_since: optional_time(row, 13)?,
        reason: row.get(14)?,
        last_look: row.get(15)?,
        metadata: digest(row, 16)?.ok_or_else(|| unreadable(16, "no digest"))?,
    })
}

pub(super) fn each_id(
    connection: &Connection,
    target: &Target,
    since: Timestamp,
    take: &mut dyn FnMut(&FileId),
) -> rusqlite::Result<()> {
    let [origin, organization, dataset] = target_key(target);
    let mut select = connection.prepare(
        "SELECT t.file_id FROM transitions t JOIN targets g USING (target_id)
         WHERE t.transition_id >= (SELECT coalesce(max(first_transition), 0) FROM run_log
                                   WHERE started_at <= ?4)
             AND t.run_number >= (SELECT coalesce(max(run_number), 0) FROM run_log
                                  WHERE started_at <= ?4)
             AND t.file_id IS NOT NULL
             AND g.origin = ?1 AND g.organization_id = ?2 AND g.dataset_id = ?3",
    )?;
    let mut found = select.query(params![origin, organization, dataset, since.to_string()])?;
    while let Some(row) = found.next()? {
        take(&FileId::new(row.get_ref(0)?.as_str()?));
    }
    Ok(())
}

pub(super) fn unnamed(
    connection: &Connection,
    target: &Target,
    since: Timestamp,
) -> rusqlite::Result<Vec<Doubt>> {
    let [origin, organization, dataset] = target_key(target);
    let mut select = connection.prepare(
        "SELECT t.attempt_id, g.origin, g.organization_id, g.dataset_id, t.path, t.remote_name,
                t.size, t.mtime_ns, t.inode, t.blake3, t.tagged, t.read_at,
                t.at, NULL, t.reason, NULL, t.metadata_blake3, r.stream
         FROM transitions t JOIN targets g USING (target_id) JOIN run_log r USING (run_number)
         WHERE t.transition_id >= (SELECT coalesce(max(first_transition), 0) FROM run_log
                                   WHERE started_at <= ?4)
             AND t.run_number >= (SELECT coalesce(max(run_number), 0) FROM run_log
                                  WHERE started_at <= ?4)
             AND t.state = 'stored' AND t.file_id IS NULL
             AND g.origin = ?1 AND g.organization_id = ?2 AND g.dataset_id = ?3",
    )?;
    select
        .query_map(
            params![origin, organization, dataset, since.to_string()],
            doubt,
        )?
        .collect()
}

pub(super) fn stored_samples(
    connection: &Connection,
    target: &Target,
) -> rusqlite::Result<Vec<StoredSample>> {
    // Empty files have the hash of nothing, and short names are found everywhere. What is open is no
    // sample: the tables themselves are meant, where views hide them.
    let mut select = connection.prepare(
        "SELECT f.file_id, f.stored_remote_name, f.path, f.stored_blake3, t.attempt_id, t.tagged,
                CASE WHEN t.settled_by = 'import' THEN NULL ELSE f.stored_metadata_blake3 END
         FROM (SELECT s.* FROM main.file_states s JOIN targets g USING (target_id)
               WHERE g.origin = ?1 AND g.organization_id = ?2 AND g.dataset_id = ?3
                   AND s.state = 'stored' AND s.file_id IS NOT NULL
                   AND s.stored_blake3 IS NOT NULL AND s.stored_size > 0
               ORDER BY length(s.stored_remote_name) < 10, s.stored_size, s.path
               LIMIT 100) f
         JOIN main.transitions t USING (transition_id)
         ORDER BY length(f.stored_remote_name) < 10, f.stored_size, f.path",
    )?;
    select
        .query_map(target_key(target), |row| {
            let attempt = AttemptId::new(row.get::<_, String>(4)?);
            Ok(StoredSample {
                file_id: FileId::new(row.get::<_, String>(0)?),
                remote_name: row.get(1)?,
                path: SourcePath::new(row.get::<_, String>(2)?),
                digest: digest(row, 3)?.ok_or_else(|| unreadable(3, "no digest"))?,
                metadata: digest(row, 6)?,
                planted: row.get::<_, bool>(5)?.then_some(attempt),
            })
        })?
        .collect()
}
