"""From source files to tables: reading, rejecting, profiling, and running the SQL. The SQL is in dbt_project/."""
