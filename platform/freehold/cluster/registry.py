"""The account's own registry for the images that Freehold builds."""

from __future__ import annotations

import json

import pulumi
import pulumi_aws as aws

from .tags import tags

OWN_IMAGES = ("engine", "gateway", "router")
_KEEP = 20  # versions: enough to go back to, bounded so that 10 GB images do not pile up


class Registry(pulumi.ComponentResource):
    """One repository for each image: tags cannot be moved, and every push is scanned."""

    prefix: pulumi.Output[str]
    """`<account>.dkr.ecr.<region>.amazonaws.com/<stack>`."""

    def __init__(self, stack: str, opts: pulumi.ResourceOptions) -> None:
        super().__init__("freehold:cluster:Registry", "registry", {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        repositories = [self._repository(stack, image, child) for image in OWN_IMAGES]
        self.prefix = repositories[0].repository_url.apply(
            lambda url: url.removesuffix(f"/{OWN_IMAGES[0]}")
        )
        self.register_outputs({"prefix": self.prefix})

    def _repository(
        self, stack: str, image: str, opts: pulumi.ResourceOptions
    ) -> aws.ecr.Repository:
        repository = aws.ecr.Repository(
            image,
            name=f"{stack}/{image}",
            image_tag_mutability="IMMUTABLE",
            image_scanning_configuration={"scan_on_push": True},
            encryption_configurations=[{"encryption_type": "KMS"}],
            force_delete=True,  # they are built again from the checkout
            tags=tags(stack),
            opts=opts,
        )
        aws.ecr.LifecyclePolicy(
            image,
            repository=repository.name,
            policy=json.dumps(
                {
                    "rules": [
                        {
                            "rulePriority": 1,
                            "selection": {
                                "tagStatus": "any",
                                "countType": "imageCountMoreThan",
                                "countNumber": _KEEP,
                            },
                            "action": {"type": "expire"},
                        }
                    ]
                }
            ),
            opts=opts,
        )
        return repository
