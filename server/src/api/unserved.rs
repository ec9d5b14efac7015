//! The services that are not served yet, and say so.

use std::pin::Pin;

use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::proto::etcdserverpb::auth_server::Auth;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::*;

const WATCH: &str = "watching keys is not served by raftwerk yet";
const LEASE: &str = "leases are not served by raftwerk yet";
const AUTH: &str = "users and roles are not served by raftwerk yet";

/// Answers UNIMPLEMENTED to everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unserved;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Watch for Unserved {
    type WatchStream = Answers<WatchResponse>;

    async fn watch(
        &self,
        _: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(WATCH))
    }
}

/// The methods of a service that answer `$why`, beside those given in full.
macro_rules! unserved {
    (
        $service:ident, $why:ident { $($method:ident($request:ty) -> $response:ty;)* }
        $($rest:tt)*
    ) => {
        #[tonic::async_trait]
        impl $service for Unserved {
            $(async fn $method(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented($why))
            })*
            $($rest)*
        }
    };
}

unserved! {
    Lease, LEASE {
        lease_grant(LeaseGrantRequest) -> LeaseGrantResponse;
        lease_revoke(LeaseRevokeRequest) -> LeaseRevokeResponse;
        lease_time_to_live(LeaseTimeToLiveRequest) -> LeaseTimeToLiveResponse;
        lease_leases(LeaseLeasesRequest) -> LeaseLeasesResponse;
        lease_keep_alive(Streaming<LeaseKeepAliveRequest>) -> Self::LeaseKeepAliveStream;
    }
    type LeaseKeepAliveStream = Answers<LeaseKeepAliveResponse>;
}

unserved! {
    Auth, AUTH {
        auth_enable(AuthEnableRequest) -> AuthEnableResponse;
        auth_disable(AuthDisableRequest) -> AuthDisableResponse;
        auth_status(AuthStatusRequest) -> AuthStatusResponse;
        authenticate(AuthenticateRequest) -> AuthenticateResponse;
        user_add(AuthUserAddRequest) -> AuthUserAddResponse;
        user_get(AuthUserGetRequest) -> AuthUserGetResponse;
        user_list(AuthUserListRequest) -> AuthUserListResponse;
        user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse;
        user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse;
        user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse;
        user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse;
        role_add(AuthRoleAddRequest) -> AuthRoleAddResponse;
        role_get(AuthRoleGetRequest) -> AuthRoleGetResponse;
        role_list(AuthRoleListRequest) -> AuthRoleListResponse;
        role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse;
        role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse;
        role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse;
    }
}
