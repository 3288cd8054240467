"""Addresses of accounts and teams."""

from django.urls import path

from webapp.accounts import views

urlpatterns = [
    path("sign-in", views.sign_in, name="sign-in"),
    path("sign-out", views.sign_out, name="sign-out"),
    path("welcome", views.welcome, name="welcome"),
    path("welcome/<str:token>", views.sign_in_link, name="sign-in-link"),
    path("join/<str:token>", views.join, name="join"),
    path("account", views.account, name="account"),
    path("account/name", views.account_name, name="account-name"),
    path("account/password", views.account_password, name="account-password"),
    path("account/tokens", views.token_new, name="token-new"),
    path("account/tokens/<uuid:pk>/revoke", views.token_revoke, name="token-revoke"),
    path("team", views.team, name="team"),
    path("team/new", views.team_new, name="team-new"),
    path("team/switch", views.team_switch, name="team-switch"),
    path("team/<uuid:pk>/name", views.team_name, name="team-name"),
    path("team/<uuid:pk>/audit", views.team_audit, name="team-audit"),
    path("team/<uuid:pk>/invitations", views.invitation_new, name="invitation-new"),
    path("team/<uuid:pk>/hub-token", views.hub_token, name="hub-token"),
    path("team/<uuid:pk>/hub-token/delete", views.hub_token_delete, name="hub-token-delete"),
    path("team/<uuid:pk>/judge", views.judge_endpoint, name="judge-endpoint"),
    path("team/<uuid:pk>/judge/delete", views.judge_endpoint_delete, name="judge-endpoint-delete"),
    path("team/<uuid:pk>/members/<uuid:user>/role", views.member_role, name="member-role"),
    path("team/<uuid:pk>/members/<uuid:user>/remove", views.member_remove, name="member-remove"),
    path("invitations/<uuid:pk>/revoke", views.invitation_revoke, name="invitation-revoke"),
]
