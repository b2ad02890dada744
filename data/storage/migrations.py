"""The database schema, as a list of migrations.

Append only: a released migration never changes. `PRAGMA user_version` is the number of migrations
that a database has been through.
"""

from __future__ import annotations

import aiosqlite

# Steps of triggers. (`ON CONFLICT` would not do: the statement that fires them may have its own.)
_COUNT_ONE_MORE = """
    INSERT INTO example_counts
    SELECT NEW.scope, substr(NEW.created_at, 1, 10), NEW.status, 0 WHERE NOT EXISTS (
        SELECT 1 FROM example_counts WHERE scope = NEW.scope
        AND day = substr(NEW.created_at, 1, 10) AND status = NEW.status
    );
    UPDATE example_counts SET count = count + 1 WHERE scope = NEW.scope
        AND day = substr(NEW.created_at, 1, 10) AND status = NEW.status;
"""
_COUNT_ONE_LESS = """
    UPDATE example_counts SET count = count - 1 WHERE scope = OLD.scope
        AND day = substr(OLD.created_at, 1, 10) AND status = OLD.status;
    DELETE FROM example_counts WHERE scope = OLD.scope
        AND day = substr(OLD.created_at, 1, 10) AND status = OLD.status AND count = 0;
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `id` is the order of arrival and is never reused: a reset keeps its place even if the
        # messages before it are deleted.
        """
        CREATE TABLE messages (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            discord_id INTEGER NOT NULL UNIQUE,
            channel_id INTEGER NOT NULL,
            author_id INTEGER NOT NULL,
            role TEXT NOT NULL,
            content TEXT NOT NULL,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX messages_by_channel ON messages (channel_id, id)",
        """
        CREATE TABLE resets (
            channel_id INTEGER PRIMARY KEY,
            after_id INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE channels (
            channel_id INTEGER PRIMARY KEY,
            guild_id INTEGER NOT NULL,
            enabled INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE active_models (
            scope INTEGER PRIMARY KEY,
            name TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE examples (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            user TEXT NOT NULL,
            bot TEXT NOT NULL,
            author_id INTEGER NOT NULL,
            source TEXT NOT NULL,
            created_at TEXT NOT NULL,
            UNIQUE (scope, user, bot)
        )
        """,
        """
        CREATE TABLE jobs (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            requested_by INTEGER NOT NULL,
            channel_id INTEGER NOT NULL,
            base_model TEXT NOT NULL,
            directory TEXT NOT NULL,
            state TEXT NOT NULL,
            created_at TEXT NOT NULL,
            checkpoint TEXT,
            detail TEXT
        )
        """,
        "CREATE INDEX jobs_by_scope ON jobs (scope, id)",
    ),
    (
        # A scope's choices are a stack: the newest is active, a rollback pops it.
        """
        CREATE TABLE activations (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            name TEXT NOT NULL,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX activations_by_scope ON activations (scope, id)",
        """
        INSERT INTO activations (scope, name, created_at)
        SELECT scope, name, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now') FROM active_models
        """,
        "DROP TABLE active_models",
        "ALTER TABLE jobs ADD COLUMN message_id INTEGER",
        "ALTER TABLE jobs ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
    ),
    (
        # A pair may occur again in another conversation, so the UNIQUE constraint changes, which
        # SQLite can only do by copying the table. Ids stay, and none is ever reused.
        """
        CREATE TABLE new_examples (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            user TEXT NOT NULL,
            bot TEXT NOT NULL,
            author_id INTEGER NOT NULL,
            source TEXT NOT NULL,
            created_at TEXT NOT NULL,
            status TEXT NOT NULL DEFAULT 'approved',
            weight INTEGER NOT NULL DEFAULT 1,
            conversation TEXT NOT NULL DEFAULT '',
            turn INTEGER NOT NULL DEFAULT 0,
            asked_by INTEGER,
            reply_id INTEGER,
            consent_version INTEGER,
            corrects INTEGER NOT NULL DEFAULT 0,
            UNIQUE (scope, conversation, turn, user, bot)
        )
        """,
        """
        INSERT INTO new_examples (id, scope, user, bot, author_id, source, created_at)
        SELECT id, scope, user, bot, author_id, source, created_at FROM examples ORDER BY id
        """,
        "DELETE FROM sqlite_sequence WHERE name = 'new_examples'",
        """
        INSERT INTO sqlite_sequence (name, seq)
        SELECT 'new_examples', seq FROM sqlite_sequence WHERE name = 'examples'
        """,
        "DROP TABLE examples",
        "ALTER TABLE new_examples RENAME TO examples",
        "CREATE INDEX examples_by_scope ON examples (scope, id)",
        "CREATE INDEX examples_by_status ON examples (scope, status, id)",
        "CREATE INDEX examples_by_author ON examples (author_id)",
        "CREATE INDEX examples_by_asker ON examples (asked_by) WHERE asked_by IS NOT NULL",
        "CREATE INDEX examples_by_reply ON examples (reply_id) WHERE reply_id IS NOT NULL",
        # The server of a message: members see summaries of one server.
        "ALTER TABLE messages ADD COLUMN scope INTEGER",
        """
        UPDATE messages SET scope = channels.guild_id FROM channels
        WHERE channels.channel_id = messages.channel_id
        """,
        "CREATE INDEX messages_by_author ON messages (author_id, scope)",
        "CREATE INDEX messages_by_time ON messages (created_at)",
        # The text of the consent changes; the agreed version stays known. Append only, except
        # for the time of withdrawal.
        """
        CREATE TABLE consents (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            version INTEGER NOT NULL,
            given_at TEXT NOT NULL,
            withdrawn_at TEXT
        )
        """,
        "CREATE INDEX consents_by_user ON consents (user_id, scope, id)",
        """
        CREATE TABLE ratings (
            reply_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            scope INTEGER NOT NULL,
            value INTEGER NOT NULL CHECK (value IN (-1, 1)),
            created_at TEXT NOT NULL,
            PRIMARY KEY (reply_id, user_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX ratings_by_user ON ratings (user_id, scope)",
        """
        CREATE TABLE replies (
            reply_id INTEGER PRIMARY KEY,
            channel_id INTEGER NOT NULL,
            scope INTEGER NOT NULL,
            asked_id INTEGER NOT NULL,
            asked_by INTEGER NOT NULL,
            model TEXT NOT NULL,
            source TEXT NOT NULL,
            seen TEXT NOT NULL,
            cut INTEGER NOT NULL,
            prompt_tokens INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            seed INTEGER,
            sampling TEXT NOT NULL,
            seconds REAL NOT NULL,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX replies_by_asker ON replies (asked_by, scope)",
        "CREATE INDEX replies_by_question ON replies (asked_id)",
        "CREATE INDEX replies_by_time ON replies (created_at)",
        """
        CREATE TABLE job_sources (
            job_id INTEGER NOT NULL,
            user_id INTEGER NOT NULL,
            consent_version INTEGER,
            PRIMARY KEY (job_id, user_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX job_sources_by_user ON job_sources (user_id)",
        """
        CREATE TABLE forgettings (
            user_id INTEGER PRIMARY KEY,
            asked_at TEXT NOT NULL
        )
        """,
    ),
    ("ALTER TABLE replies ADD COLUMN first_s REAL",),
    (
        """
        CREATE TABLE audit (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL,
            scope INTEGER NOT NULL,
            actor_id INTEGER NOT NULL,
            action TEXT NOT NULL,
            detail TEXT NOT NULL
        )
        """,
        "CREATE INDEX audit_by_scope ON audit (scope, id)",
        """
        CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'what was done stays written as it was'); END
        """,
        """
        CREATE TRIGGER audit_is_not_erased BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'what was done stays written'); END
        """,
        # INSERT OR REPLACE deletes without firing the DELETE trigger
        """
        CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
        WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
        BEGIN SELECT RAISE(ABORT, 'what was done stays written as it was'); END
        """,
        """
        CREATE TABLE pauses (
            scope INTEGER PRIMARY KEY,
            paused_by INTEGER NOT NULL,
            paused_at TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE filters (
            scope INTEGER NOT NULL,
            kind TEXT NOT NULL,
            pattern TEXT NOT NULL,
            added_by INTEGER NOT NULL,
            added_at TEXT NOT NULL,
            PRIMARY KEY (scope, kind, pattern)
        ) WITHOUT ROWID
        """,
    ),
    (
        # Whoever else taught a pair that is there already: it stays theirs when its first author
        # is erased. `asked_by` is the member who wrote `user`, as in `examples`.
        """
        CREATE TABLE example_sources (
            example_id INTEGER NOT NULL REFERENCES examples (id) ON DELETE CASCADE,
            author_id INTEGER NOT NULL,
            source TEXT NOT NULL,
            asked_by INTEGER,
            created_at TEXT NOT NULL,
            PRIMARY KEY (example_id, author_id)
        ) WITHOUT ROWID
        """,
        "CREATE INDEX example_sources_by_author ON example_sources (author_id)",
        "ALTER TABLE examples ADD COLUMN question TEXT NOT NULL DEFAULT ''",
        "UPDATE examples SET question = question_key(user)",
        "CREATE INDEX examples_by_question ON examples (scope, question)",
        # What has to be remembered from one run to the next: `erasures` is the number of the last
        # erasure in this database, `time` the last time that was trusted.
        "CREATE TABLE marks (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    ),
    (
        # Whoever becomes the author of an example is no longer a second source of it.
        """
        CREATE TRIGGER author_is_no_second_source AFTER UPDATE OF author_id ON examples
        BEGIN
            DELETE FROM example_sources WHERE example_id = NEW.id AND author_id = NEW.author_id;
        END
        """,
        """
        DELETE FROM example_sources
        WHERE (example_id, author_id) IN (SELECT id, author_id FROM examples)
        """,
    ),
    (
        # The sources follow an example that gets a new id, and so becomes the newest answer.
        "DROP TRIGGER author_is_no_second_source",
        "ALTER TABLE example_sources RENAME TO old_sources",
        """
        CREATE TABLE example_sources (
            example_id INTEGER NOT NULL
                REFERENCES examples (id) ON DELETE CASCADE ON UPDATE CASCADE,
            author_id INTEGER NOT NULL,
            source TEXT NOT NULL,
            asked_by INTEGER,
            created_at TEXT NOT NULL,
            PRIMARY KEY (example_id, author_id)
        ) WITHOUT ROWID
        """,
        "INSERT INTO example_sources SELECT * FROM old_sources",
        "DROP TABLE old_sources",
        "CREATE INDEX example_sources_by_author ON example_sources (author_id)",
        """
        CREATE TRIGGER author_is_no_second_source AFTER UPDATE OF author_id ON examples
        BEGIN
            DELETE FROM example_sources WHERE example_id = NEW.id AND author_id = NEW.author_id;
        END
        """,
    ),
    (
        # Grows with every change of what a scope may learn, whoever makes it.
        """
        CREATE TABLE dataset_versions (
            scope INTEGER PRIMARY KEY,
            version INTEGER NOT NULL
        )
        """,
        *(
            f"""
            CREATE TRIGGER {table}_{event.lower()}_is_a_new_version AFTER {event} ON {table}
            BEGIN
                INSERT INTO dataset_versions SELECT {row}.scope, 0
                WHERE NOT EXISTS (SELECT 1 FROM dataset_versions WHERE scope = {row}.scope);
                UPDATE dataset_versions SET version = version + 1 WHERE scope = {row}.scope;
            END
            """
            for table in ("examples", "consents", "ratings")
            for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
        ),
        # The taught pair that the reply is, word for word.
        "ALTER TABLE replies ADD COLUMN example_id INTEGER",
    ),
    (
        """
        CREATE TABLE introductions (
            guild_id INTEGER PRIMARY KEY,
            created_at TEXT NOT NULL
        )
        """,
    ),
    (
        """
        CREATE TABLE server_settings (
            guild_id INTEGER NOT NULL,
            name TEXT NOT NULL,
            value TEXT NOT NULL,
            changed_at TEXT NOT NULL,
            PRIMARY KEY (guild_id, name)
        )
        """,
    ),
    (
        # What was taught on a day, and by whom, without reading the words of all examples.
        """
        CREATE INDEX examples_by_day
        ON examples (scope, substr(created_at, 1, 10), author_id, source)
        """,
    ),
    (
        # How many examples of which day and status a scope has, kept by whoever changes one:
        # to count them anew would take longer with each that is taught.
        """
        CREATE TABLE example_counts (
            scope INTEGER NOT NULL,
            day TEXT NOT NULL,
            status TEXT NOT NULL,
            count INTEGER NOT NULL,
            PRIMARY KEY (scope, day, status)
        ) WITHOUT ROWID
        """,
        """
        INSERT INTO example_counts
        SELECT scope, substr(created_at, 1, 10), status, count(*) FROM examples GROUP BY 1, 2, 3
        """,
        *(
            f"""
            CREATE TRIGGER example_counts_after_{event.split()[0].lower()} AFTER {event} ON examples
            BEGIN {" ".join(steps)} END
            """
            for event, steps in (
                ("INSERT", (_COUNT_ONE_MORE,)),
                ("DELETE", (_COUNT_ONE_LESS,)),
                ("UPDATE OF scope, created_at, status", (_COUNT_ONE_LESS, _COUNT_ONE_MORE)),
            )
        ),
    ),
    (
        # Who chose when a server retrains by itself, and which night was decided about last.
        """
        CREATE TABLE schedules (
            scope INTEGER PRIMARY KEY,
            chosen_by INTEGER NOT NULL,
            channel_id INTEGER NOT NULL,
            since TEXT NOT NULL,
            last_night TEXT,
            skipped TEXT
        )
        """,
    ),
    (
        """
        CREATE TABLE golden_questions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            scope INTEGER NOT NULL,
            question TEXT NOT NULL,
            key TEXT NOT NULL,
            kind TEXT NOT NULL,
            expected TEXT NOT NULL,
            needed INTEGER NOT NULL CHECK (needed BETWEEN 1 AND 5),
            added_by INTEGER NOT NULL,
            added_at TEXT NOT NULL,
            UNIQUE (scope, key, kind, expected)
        )
        """,
        # The last time that a model was asked: of GOLDEN_DRAWS replies each, the good ones.
        """
        CREATE TABLE golden_scores (
            golden_id INTEGER NOT NULL REFERENCES golden_questions (id) ON DELETE CASCADE,
            model TEXT NOT NULL,
            alone INTEGER NOT NULL,
            in_talk INTEGER NOT NULL,
            asked_at TEXT NOT NULL,
            PRIMARY KEY (golden_id, model)
        ) WITHOUT ROWID
        """,
    ),
    (
        # Comparisons of two models by the members of a scope, and the pairs of answers that they
        # vote on. `other` holds words, so it goes with the reply that it stands beside; a vote,
        # which holds none, stays.
        """
        CREATE TABLE duels (
            id INTEGER PRIMARY KEY,
            scope INTEGER NOT NULL,
            model_a TEXT NOT NULL,
            model_b TEXT NOT NULL,
            share INTEGER NOT NULL,
            channel_id INTEGER,
            report_channel_id INTEGER NOT NULL,
            started_at TEXT NOT NULL,
            ended_at TEXT,
            outcome TEXT,
            announced INTEGER NOT NULL DEFAULT 0
        )
        """,
        "CREATE UNIQUE INDEX one_duel_at_a_time ON duels (scope) WHERE ended_at IS NULL",
        """
        CREATE TABLE duel_pairs (
            reply_id INTEGER PRIMARY KEY,
            duel_id INTEGER NOT NULL REFERENCES duels (id),
            a_first INTEGER NOT NULL,
            other TEXT,
            voter_id INTEGER,
            choice TEXT,
            voted_at TEXT
        )
        """,
        "CREATE INDEX duel_votes ON duel_pairs (duel_id, voted_at)",
        "CREATE INDEX duel_votes_by_member ON duel_pairs (voter_id)",
        """
        CREATE TRIGGER other_answer_goes_with_its_reply AFTER DELETE ON messages
        BEGIN
            DELETE FROM duel_pairs WHERE reply_id = OLD.discord_id AND choice IS NULL;
            UPDATE duel_pairs SET other = NULL WHERE reply_id = OLD.discord_id;
        END
        """,
        # New checkpoints that serve some channels first, and the replies that went wrong: of most
        # of these nothing else is kept.
        """
        CREATE TABLE canaries (
            id INTEGER PRIMARY KEY,
            scope INTEGER NOT NULL,
            model TEXT NOT NULL,
            old_model TEXT NOT NULL,
            share INTEGER NOT NULL,
            base_bad INTEGER NOT NULL,
            base_replies INTEGER NOT NULL,
            report_channel_id INTEGER NOT NULL,
            started_at TEXT NOT NULL,
            ended_at TEXT,
            outcome TEXT,
            announced INTEGER NOT NULL DEFAULT 0
        )
        """,
        """
        CREATE TABLE reply_faults (
            id INTEGER PRIMARY KEY,
            scope INTEGER NOT NULL,
            model TEXT NOT NULL,
            fault TEXT NOT NULL,
            reply_id INTEGER,
            created_at TEXT NOT NULL
        )
        """,
        "CREATE INDEX reply_faults_by_model ON reply_faults (scope, model, created_at)",
        "CREATE INDEX reply_faults_by_reply ON reply_faults (reply_id)",
        "CREATE INDEX reply_faults_by_time ON reply_faults (created_at)",
        "CREATE INDEX replies_by_model ON replies (scope, model, created_at)",
        """
        INSERT INTO marks VALUES ('faults_since', strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'))
        """,
    ),
    (
        # A golden question that was taken from a taught pair goes with the last such pair, whoever
        # removes or changes it: else the next model, which no longer learns it, would be refused.
        "ALTER TABLE golden_questions ADD COLUMN taught INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE golden_questions SET taught = 1
        WHERE kind IN ('contain', 'equal') AND EXISTS (
            SELECT 1 FROM examples
            WHERE scope = golden_questions.scope AND question = golden_questions.key
                AND bot = golden_questions.expected AND status <> 'rejected'
        )
        """,
        *(
            f"""
            CREATE TRIGGER golden_question_goes_after_{event.split()[0].lower()}
            AFTER {event} ON examples
            BEGIN
                DELETE FROM golden_questions
                WHERE scope = OLD.scope AND key = OLD.question AND expected = OLD.bot AND taught
                    AND NOT EXISTS (
                        SELECT 1 FROM examples
                        WHERE scope = OLD.scope AND question = OLD.question AND bot = OLD.bot
                            AND status <> 'rejected'
                    );
            END
            """
            for event in ("DELETE", "UPDATE OF scope, question, bot, status")
        ),
    ),
    (
        # A duel runs in any number of channels, which are a JSON list; in none: everywhere.
        "ALTER TABLE duels ADD COLUMN channels TEXT NOT NULL DEFAULT '[]'",
        "UPDATE duels SET channels = json_array(channel_id) WHERE channel_id IS NOT NULL",
        "ALTER TABLE duels DROP COLUMN channel_id",
    ),
)

SCHEMA_VERSION = len(MIGRATIONS)
"""The `user_version` that this version of the bot writes."""


async def needs_migration(db: aiosqlite.Connection) -> bool:
    """Whether an existing database lacks migrations."""
    return 0 < await _version(db) < SCHEMA_VERSION


async def migrate(db: aiosqlite.Connection) -> None:
    """Run the migrations that the database lacks, each in its own transaction. `db` must be in
    autocommit mode. Raises sqlite3.Error: one failed and was rolled back; those before it stay."""
    for version in range(await _version(db) + 1, SCHEMA_VERSION + 1):
        await db.execute("BEGIN IMMEDIATE")
        try:
            if await _version(db) < version:  # another process may have been faster
                for statement in MIGRATIONS[version - 1]:
                    await db.execute(statement)
                await db.execute(f"PRAGMA user_version = {version}")
            await db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # SQLite itself rolls back on a full disk
                await db.execute("ROLLBACK")
            raise


async def _version(db: aiosqlite.Connection) -> int:
    [row] = await db.execute_fetchall("PRAGMA user_version")
    return int(row[0])
