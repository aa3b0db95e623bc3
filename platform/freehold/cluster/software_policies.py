"""What the two controllers that call AWS may do there. Pure."""

from __future__ import annotations

from . import iam


def autoscaler_policy(cluster: str) -> str:
    """Read what there is; size only the groups that EKS tagged as this cluster's.

    (cluster-autoscaler docs, cloudprovider/aws, "Full Cluster Autoscaler features policy".)
    """
    return iam.document(
        [
            iam.allow(
                [
                    "autoscaling:DescribeAutoScalingGroups",
                    "autoscaling:DescribeAutoScalingInstances",
                    "autoscaling:DescribeLaunchConfigurations",
                    "autoscaling:DescribeScalingActivities",
                    "autoscaling:DescribeTags",
                    "ec2:DescribeImages",
                    "ec2:DescribeInstanceTypes",
                    "ec2:DescribeLaunchTemplateVersions",
                    "ec2:GetInstanceTypesFromInstanceRequirements",
                    "eks:DescribeNodegroup",
                ],
                ["*"],
            ),
            iam.allow(
                [
                    "autoscaling:SetDesiredCapacity",
                    "autoscaling:TerminateInstanceInAutoScalingGroup",
                ],
                ["*"],
                StringEquals={
                    f"aws:ResourceTag/k8s.io/cluster-autoscaler/{cluster}": "owned",
                },
            ),
        ]
    )


_ELB = "elasticloadbalancing"


def load_balancer_policy(cluster: str, region: str) -> str:
    """Network load balancers in one region, and nothing that another controller made.

    From the controller's published policy (aws-load-balancer-controller docs/install/iam_policy.json,
    3.5.0, Apache-2.0) less WAF, Shield, Cognito and application load balancers, which are not used
    here, and with its unconditional statements bound to the region and to tags.
    """
    ours = {"aws:ResourceTag/elbv2.k8s.aws/cluster": cluster}
    asked = {"aws:RequestTag/elbv2.k8s.aws/cluster": cluster}
    groups = [f"arn:aws:ec2:{region}:*:security-group/*"]
    balancers = [f"arn:aws:{_ELB}:{region}:*:loadbalancer/net/*/*"]
    targets = [f"arn:aws:{_ELB}:{region}:*:targetgroup/*/*"]
    listeners = [f"arn:aws:{_ELB}:{region}:*:listener/net/*/*/*"]
    return iam.document(
        [
            iam.allow(
                ["iam:CreateServiceLinkedRole"],
                ["*"],
                StringEquals={"iam:AWSServiceName": "elasticloadbalancing.amazonaws.com"},
            ),
            iam.allow(_READS, ["*"]),
            iam.allow(["ec2:CreateSecurityGroup"], [*groups, f"arn:aws:ec2:{region}:*:vpc/*"]),
            iam.allow(
                ["ec2:CreateTags"],
                groups,
                StringEquals={"ec2:CreateAction": "CreateSecurityGroup", **asked},
            ),
            iam.allow(["ec2:CreateTags", "ec2:DeleteTags"], groups, StringEquals=ours),
            iam.allow([*_RULES, "ec2:DeleteSecurityGroup"], groups, StringEquals=ours),
            # The nodes' group is EKS's: balancers must be let in there.
            iam.allow(
                _RULES,
                groups,
                StringEquals={f"aws:ResourceTag/kubernetes.io/cluster/{cluster}": "owned"},
            ),
            iam.allow(
                [f"{_ELB}:CreateLoadBalancer", f"{_ELB}:CreateTargetGroup"],
                [*balancers, *targets],
                StringEquals=asked,
            ),
            iam.allow([f"{_ELB}:CreateListener"], [*balancers, *listeners], StringEquals=asked),
            iam.allow(
                [f"{_ELB}:AddTags"],
                [*balancers, *targets, *listeners],
                StringEquals={
                    f"{_ELB}:CreateAction": [
                        "CreateTargetGroup",
                        "CreateLoadBalancer",
                        "CreateListener",
                    ],
                    **asked,
                },
            ),
            iam.allow(
                [f"{_ELB}:AddTags", f"{_ELB}:RemoveTags"],
                [*balancers, *targets, *listeners],
                StringEquals=ours,
            ),
            iam.allow(_CHANGES, [*balancers, *targets, *listeners], StringEquals=ours),
        ]
    )


_RULES = ["ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"]
_READS = [
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAddresses",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeInstances",
    "ec2:DescribeInternetGateways",
    "ec2:DescribeIpamPools",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeRouteTables",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeVpcPeeringConnections",
    "ec2:DescribeVpcs",
    "ec2:GetSecurityGroupsForVpc",
    f"{_ELB}:DescribeCapacityReservation",
    f"{_ELB}:DescribeListenerAttributes",
    f"{_ELB}:DescribeListenerCertificates",
    f"{_ELB}:DescribeListeners",
    f"{_ELB}:DescribeLoadBalancerAttributes",
    f"{_ELB}:DescribeLoadBalancers",
    f"{_ELB}:DescribeRules",
    f"{_ELB}:DescribeSSLPolicies",
    f"{_ELB}:DescribeTags",
    f"{_ELB}:DescribeTargetGroupAttributes",
    f"{_ELB}:DescribeTargetGroups",
    f"{_ELB}:DescribeTargetHealth",
    f"{_ELB}:DescribeTrustStores",
    "acm:DescribeCertificate",
    "acm:ListCertificates",
]
_CHANGES = [
    f"{_ELB}:AddListenerCertificates",
    f"{_ELB}:DeleteListener",
    f"{_ELB}:DeleteLoadBalancer",
    f"{_ELB}:DeleteTargetGroup",
    f"{_ELB}:DeregisterTargets",
    f"{_ELB}:ModifyCapacityReservation",
    f"{_ELB}:ModifyListener",
    f"{_ELB}:ModifyListenerAttributes",
    f"{_ELB}:ModifyLoadBalancerAttributes",
    f"{_ELB}:ModifyTargetGroup",
    f"{_ELB}:ModifyTargetGroupAttributes",
    f"{_ELB}:RegisterTargets",
    f"{_ELB}:RemoveListenerCertificates",
    f"{_ELB}:SetIpAddressType",
    f"{_ELB}:SetSecurityGroups",
    f"{_ELB}:SetSubnets",
]
