packages default-mysql-client postgresql-client redis-tools sqlite3
programs "alembic==$ALEMBIC_VERSION"
