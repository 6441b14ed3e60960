#!/bin/sh
# Makes the certificates of clients that the tests use. They are valid for a hundred years, so that
# the tests do not depend on the date. Needs OpenSSL 3. Usage: clients.sh FOLDER
set -eu
cd "$1"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>"$work/log"; }

# authority NAME COMMON_NAME
authority() {
    key "$work/$1-key.pem"
    openssl req -x509 -new -key "$work/$1-key.pem" -days 36500 -subj "/CN=$2" -out "$1.pem"
}

# client NAME AUTHORITY SUBJECT EXTENSIONS
client() {
    name=$1 by=$2 subject=$3 extensions=$4
    key "$name-key.pem"
    openssl req -new -utf8 -multivalue-rdn -key "$name-key.pem" -subj "$subject" -out "$work/request.pem"
    printf '%b' "basicConstraints=CA:FALSE\n$extensions\n" >"$work/extensions"
    openssl x509 -req -in "$work/request.pem" -CA "$by.pem" -CAkey "$work/$by-key.pem" \
        -days 36500 -set_serial "0x$(openssl rand -hex 8)" -extfile "$work/extensions" \
        -out "$name.pem" 2>"$work/log"
}

authority client-ca "Test client CA"
authority stranger-ca "Another CA"
usage="extendedKeyUsage=clientAuth"
client ada client-ca '/C=DE/O=Acme, Inc./OU=Sensors+UID=17/CN=ada' \
    "$usage\nsubjectAltName=URI:urn:dev:ada,email:ada@example.com,DNS:ada.example.com"
client eve client-ca '/CN=eve' "$usage"
client odd client-ca '/DC=org/O= #Zoë "x"/emailAddress=odd@example.com' "$usage"
client server-only client-ca '/CN=server-only' "extendedKeyUsage=serverAuth"
client stranger stranger-ca '/CN=ada' "$usage"

: >"$work/index"
echo 01 >"$work/number"
printf '[ca]\ndefault_ca=it\n[it]\ndatabase=%s\ncrlnumber=%s\ndefault_md=sha256\ncrl_extensions=e\npolicy=p\nnew_certs_dir=%s\nserial=%s\n[p]\ncommonName=supplied\n[e]\nauthorityKeyIdentifier=keyid\n' \
    "$work/index" "$work/number" "$work" "$work/number" >"$work/config"
list() { openssl ca -config "$work/config" -cert client-ca.pem -keyfile "$work/client-ca-key.pem" "$@" 2>"$work/log"; }
client old client-ca '/CN=old' "$usage"
list -in "$work/request.pem" -batch -notext -extfile "$work/extensions" -out old.pem \
    -startdate 20200101000000Z -enddate 20200102000000Z
list -revoke eve.pem
list -gencrl -crldays 36500 -out revoked.pem
list -gencrl -crl_lastupdate 20200101000000Z -crl_nextupdate 20200102000000Z -out revoked-old.pem
