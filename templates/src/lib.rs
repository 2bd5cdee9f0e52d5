//! Every word Relaydesk sends: handlebars templates with typed contexts
