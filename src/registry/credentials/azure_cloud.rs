//! Azure's clouds: what they are called, where they authenticate, and what their registries' names end in.

/// One of Azure's clouds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    /// What `AZURE_ENVIRONMENT` and the cloud provider's configuration call it, whatever the case.
    names: &'static [&'static str],
    /// What its registries' names end in.
    registries: &'static str,
    pub(super) authority: &'static str,
    /// What the first token is good for.
    pub(super) resource: &'static str,
}

/// All of them, the public one first.
pub(super) const CLOUDS: [Cloud; 4] = [
    Cloud {
        names: &["AzurePublicCloud", "AzureCloud"],
        registries: ".azurecr.io",
        authority: "https://login.microsoftonline.com/",
        resource: "https://management.azure.com/",
    },
    Cloud {
        names: &["AzureChinaCloud"],
        registries: ".azurecr.cn",
        authority: "https://login.chinacloudapi.cn/",
        resource: "https://management.chinacloudapi.cn/",
    },
    Cloud {
        names: &["AzureUSGovernmentCloud", "AzureUSGovernment"],
        registries: ".azurecr.us",
        authority: "https://login.microsoftonline.us/",
        resource: "https://management.usgovcloudapi.net/",
    },
    Cloud {
        names: &["AzureGermanCloud"],
        registries: ".azurecr.de",
        authority: "https://login.microsoftonline.de/",
        resource: "https://management.microsoftazure.de/",
    },
];

/// The cloud of a registry.
pub(super) fn cloud(registry: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| registry.ends_with(cloud.registries))
}

/// The cloud of that name.
pub(super) fn named_cloud(name: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| cloud.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}
