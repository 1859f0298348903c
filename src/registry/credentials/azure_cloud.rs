//! The table of Azure's clouds: their names, their authorities and the domains of their registries.

/// One of Azure's clouds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cloud {
    /// Its names in `AZURE_ENVIRONMENT` and the cloud provider's configuration, in any case.
    names: &'static [&'static str],
    /// The suffix of its registries' names.
    registries: &'static str,
    pub(super) authority: &'static str,
    /// The resource that the access token is for.
    pub(super) resource: &'static str,
}

/// All clouds, the public one first.
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

/// Returns the cloud of a registry.
pub(super) fn cloud(registry: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| registry.ends_with(cloud.registries))
}

/// Returns the cloud with this name.
pub(super) fn named_cloud(name: &str) -> Option<&'static Cloud> {
    CLOUDS.iter().find(|cloud| cloud.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
}
