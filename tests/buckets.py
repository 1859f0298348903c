#!/usr/bin/env python3
"""Fills the buckets of the test peers with their services' own libraries: an independent writer of what crabwright reads.

    buckets.py s3-user  ENDPOINT                  makes a user of an empty moto, prints its key and secret
    buckets.py s3       ENDPOINT BUCKET KEY FILE  with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY
    buckets.py gs       ENDPOINT BUCKET KEY FILE
    buckets.py azure    ENDPOINT BUCKET KEY FILE  prints a shared access signature for reading it
"""
import datetime
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

# The account that the emulator documents.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def s3_user(endpoint):
    import boto3

    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="none", aws_secret_access_key="none")
    iam.create_user(UserName="builder")
    made = iam.create_access_key(UserName="builder")["AccessKey"]
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="builder", PolicyName="all", PolicyDocument=json.dumps(allow))
    print(made["AccessKeyId"], made["SecretAccessKey"])


def s3(endpoint, bucket, key, file):
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    try:
        client.create_bucket(Bucket=bucket)
    except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        pass
    client.upload_file(file, bucket, key)


def gs(endpoint, bucket, key, file):
    def post(path, body, kind):
        request = urllib.request.Request(endpoint + path, data=body, headers={"Content-Type": kind})
        urllib.request.urlopen(request).close()

    try:
        post("/storage/v1/b", json.dumps({"name": bucket}).encode(), "application/json")
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise
    with open(file, "rb") as content:
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        post(f"/upload/storage/v1/b/{bucket}/o?{query}", content.read(), "application/octet-stream")


def azure(endpoint, bucket, key, file):
    from azure.core.exceptions import ResourceExistsError
    from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

    service = BlobServiceClient(f"{endpoint}/{ACCOUNT}", credential={"account_name": ACCOUNT, "account_key": KEY})
    try:
        service.create_container(bucket)
    except ResourceExistsError:
        pass
    with open(file, "rb") as content:
        service.get_blob_client(bucket, key).upload_blob(content, overwrite=True)
    expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    print(generate_blob_sas(ACCOUNT, bucket, key, account_key=KEY, permission=BlobSasPermissions(read=True), expiry=expiry))


if __name__ == "__main__":
    {"s3-user": s3_user, "s3": s3, "gs": gs, "azure": azure}[sys.argv[1]](*sys.argv[2:])
