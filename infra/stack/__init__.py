"""The servers that a cluster has, on one machine: S3 (SeaweedFS), PostgreSQL, and MLflow with a login in front of both.

    make stack-up                 # start them, or mend what does not run
    make lifecycle STACK=1        # the lifecycle, on them
    make stack-status
    make stack-down               # PURGE=1 removes their data too

All of it lies in `$K2_HOME/stack`. Nothing listens beyond the loopback interface and nothing reports home.

    config      ports and secrets, chosen once and kept; what a client needs of them
    processes   start a server, find it again, end it with all its children
    postgres    the database: whose programs, whose rights, what MLflow needs in it
    services    the three servers: command, preparation, health
    control     start and end them together
    compose     the same for those who have docker
    __main__    the commands
"""
