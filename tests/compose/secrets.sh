#!/bin/sh
# Makes what the services of one installation share and what each has for itself, the first time; afterwards it leaves all as it
# is. Every service has a folder of its own, which no other one is given.
set -eu
umask 077

# word: 256 bits that nobody guesses, as text.
word() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

cd /secrets
if [ -f postgres/done ]; then exit 0; fi

credential=$(word)
word >postgres/superuser
for service in auth login send receiver; do
    # Pods of a service share the key that encrypts what must not be read from its tables.
    head -c 32 /dev/urandom >$service/secret.key
    # By this the services know one another, where no mesh vouches for them.
    echo "$credential" >$service/credential
    password=$(word)
    echo "$password" >postgres/$service
    echo "postgres:5432:$service:$service:$password" >$service/pgpass
    # The user of the image, who is nobody.
    chown -R 65532:65532 $service
done
chown -R postgres postgres
touch postgres/done
