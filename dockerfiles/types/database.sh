packages default-mysql-client postgresql-client redis-tools sqlite3
install_node
npm_programs "mongosh@$MONGOSH_VERSION"
programs "alembic==$ALEMBIC_VERSION"
